"""customers.py: invented customers, and a shop that tells others of their orders.  All numbers
are those that the countries keep for fiction."""
import itertools
import random
import time

YOU = ("Your phone", "+12025550147")  # played by whoever sits at the page
PEOPLE = [  # name, number, what they write, what they answer to a reply
    ("Amira", "+33639981204",
     ["مرحبا، أين طلبي رقم 4471؟", "هل يمكن التسليم يوم السبت؟"], "شكرا جزيلا 🌷"),
    ("Ben", "+447700900312",
     ["Hi, my parcel says delivered but it is not here 😕", "Can I pick it up on Tuesday?"],
     "Perfect, thanks for the quick answer!"),
    ("Chloé", "+33639980457",
     ["Bonjour, je voudrais échanger la taille 38 contre une 40.", "Où est ma commande ?"],
     "Merci beaucoup, à demain !"),
    ("Dmitri", "+493023125118",
     ["Здравствуйте, когда доставка? Меня не будет дома до 18:00.", "Перезвоните, пожалуйста"],
     "Спасибо, всё понятно"),
    ("Emma", "+46701740612",
     ["Hej! Går det bra att hämta på lördag?", "Är ni öppna på söndag?"], "Tack så mycket! 🙏"),
    ("Farid", "+447700900482",
     ["Is the blue one in stock again? I need two of them 💙", "Do you ship to Ireland?"],
     "Great, I'll order tonight"),
    ("Greta", "+493023125507",
     ["Die Tür klemmt seit der Lieferung. Können Sie jemanden schicken?",
      "Ich habe Größe 42 bestellt und 24 bekommen 🤷"], "Wunderbar, vielen Dank!"),
    ("Haruka", "+447700900775",
     ["予約を変更したいです。金曜日の午後は空いていますか?", "領収書をお願いします"],
     "ありがとうございます😊"),
    ("Itai", "+12025550163",
     ["שלום, ההזמנה שלי (4502) עוד לא הגיעה", "אפשר לשנות את הכתובת?"], "תודה רבה!"),
    ("Jo", "+12025550118",
     ["Your form shows me <script>alert(1)</script> instead of a button. Is that normal?",
      "I wrote to you twice last week about the two chairs and the table. The table has a "
      "scratch, one chair is the wrong colour, and the van left before I could look. "
      "Please send somebody who can take them back!"], "OK, Thursday then. Thank you."),
    ("Lucía", "+12025550181",
     ["¿A qué hora abren mañana?", "¡No me ha llegado el código de descuento!"],
     "¡Perfecto, gracias! 🎉"),
    ("Priya", "+447700900239",
     ["नमस्ते, मेरा ऑर्डर कहाँ है?", "👩‍👩‍👧 Is the family ticket valid for grandma too?"],
     "धन्यवाद 🙏"),
]
BUYERS = ("+120255501", "+4477009001", "+4930231252", "+467017406", "+336399833")
MOST_ORDERS = 6  # on their way at a time


def phones(with_people):
    people = PEOPLE if with_people else []
    return [{"name": name, "phone": phone} for name, phone, *_ in [YOU, *people]]


class Crowd:
    """One webhook in an interval, and then and now an answer to a reply."""

    def __init__(self, gateway, failures):
        self.gateway, self.failures = gateway, failures
        self.answers = {phone: answer for _, phone, _, answer in PEOPLE}
        self.invented = set(self.answers)  # without those whom somebody plays
        self.questions, self.orders, self.answered = [], [], {}
        self.numbers = itertools.count()  # of orders

    def run(self, seconds):
        # At first everybody has a question; later there is time to answer.
        for turn in itertools.count():
            time.sleep(random.uniform(0.7, 1.3) * seconds)
            if turn % (2 if turn < 2 * len(PEOPLE) else 8) == 0:
                self.ask()
            else:
                self.go_on_with_an_order()

    def say(self, phone, text):
        if phone in self.invented - self.gateway.off:
            self.gateway.after(0, self.gateway.send_incoming, phone, text)

    def ask(self):
        if not self.questions:
            people = random.sample(PEOPLE, len(PEOPLE))
            self.questions = [(phone, texts[n]) for n in (1, 0) for _, phone, texts, _ in people]
        self.say(*self.questions.pop())

    def go_on_with_an_order(self):
        """Its SMS is queued, sent, then delivered; one in twelve fails."""
        if not self.orders or len(self.orders) < MOST_ORDERS and random.random() < 0.4:
            phone = f"{random.choice(BUYERS)}{random.randrange(5, 100):02}"  # +46...05 to 99
            end = "failed" if next(self.numbers) % 12 == 4 else "delivered"
            self.orders.append((next(self.gateway.ids), phone, [end, "sent", "queued"]))
        sms_id, phone, words = order = random.choice(self.orders)
        word = words.pop()
        if not words:
            self.orders.remove(order)
        failure = random.choice(self.failures) if word == "failed" else None
        self.gateway.after(0, self.gateway.send_status, sms_id, phone, word, failure)

    def reached(self, phone):
        """Who got a reply says thanks; not each time, or two machines would talk for ever."""
        now = time.monotonic()
        if phone in self.invented and now - self.answered.get(phone, -60) >= 60:
            self.answered[phone] = now
            self.gateway.after(random.uniform(2, 5), self.say, phone, self.answers[phone])
