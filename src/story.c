#include "story.h"

#include <stdio.h>
#include <stdlib.h>

static const int64_t BEGIN = INT64_C(1768471200000000); /* 2026-01-15T10:00:00Z */

/* Numbers that the countries keep for fiction; an x is any digit. */
static const struct person {
	const char *number;
	const char *texts[3];
} people[STORY_PEOPLE] = {
    {"+1 (202) 555-01xx", {"Hello, I need help with my order", "Thanks, that's great!",
			      "Is it \"ready\"?\nI can come at 5 / 5:30 pm"}},
    {"+44 7700 900xxx", {"Running 10 min late, sorry 🙏", "Can we move it to Tuesday?",
			    "Ta! See you at the caf\u00e9 \u2615\ufe0f"}},
    {"+49 30 23125-xxx", {"Grüße aus Köln 👍", "Ist das Paket schon unterwegs?",
			     "Größe 42, bitte. Über 3 Stück wären schön."}},
    {"+33 6 39 98 xx xx", {"Merci beaucoup, à demain\u00a0!", "Où est ma commande\u00a0?",
			      "C'est noté, très bien 😊"}},
    {"+46 70 174 06 5x",
	{"Tack så mycket!", "Jag är hemma efter kl 17", "Går det bra på lördag?"}},
    {"+1 202-555-01xx",
	{"¿A qué hora abren mañana?", "¡Perfecto, gracias! 🎉", "Número de pedido: 4471"}},
    {"+49 221 4710 xxx", {"Здравствуйте, когда доставка?", "Спасибо, всё получил",
			     "Перезвоните, пожалуйста"}},
    {"+44.7700.900xxx", {"नमस्ते, मेरा ऑर्डर कहाँ है?", "धन्यवाद 🙏", "ठीक है, कल मिलते हैं"}},
    {"+33 6 39 98 xxxx", {"مرحبا، أين طلبي؟", "شكرا جزيلا", "سأكون هناك الساعة 6"}},
    {"+61 491 570 156", {"你好,我的订单到哪里了?", "谢谢!", "明天下午三点可以吗?"}},
    {"+44 7700 900 xxx",
	{"予約を変更したいです", "ありがとうございます😊", "了解しました。"}},
    {"+1 202.555.01xx",
	{"C:\\orders\\17\tdone", "👍🏽👩‍👩‍👧 see you",
	    "I wrote to you twice last week about the two chairs and the table, and "
	    "nobody has called me back. The table has a scratch, one chair is the wrong "
	    "colour, and the van left before I could look. Please send somebody on "
	    "Thursday or Friday after four, or tell me how to send it all back."}},
};

/* Senders with a name. */
static const struct {
	const char *name, *text;
} companies[] = {
    {"ParcelBox", "Your parcel 3391 arrives today between 14:00 and 16:00."},
    {"Stadtwerke", "Ihre Rechnung ist da. Fragen? Antworten Sie nicht auf diese SMS."},
    {"InfoSMS", "Your data volume is used up: 100 %"},
};

static const char *const commands[] = {
    "STOP", "HELP", "YES", "NO", "Stop", "yes please", "HELP: order 4471"};

static unsigned
below(struct story *s, unsigned n)
{
	return (unsigned)((uint64_t)nrand48(s->random) * n >> 31);
}

static bool
one_in(struct story *s, unsigned n)
{
	return below(s, n) == 0;
}

/* ---------------------------------------------------------------- people */

/* A number as it stands in the table, or without punctuation, mostly, or so and
 * with 00 for the +. */
static const char *
phone(struct story *s, unsigned person)
{
	unsigned form = below(s, 6), digits = s->people[person];
	char *out = s->phone;
	for (const char *p = people[person].number; *p; p++) {
		if (*p == 'x') {
			*out++ = (char)('0' + digits % 10);
			digits /= 10;
		} else if (*p == '+' && form == 1) {
			*out++ = '0';
			*out++ = '0';
		} else if (form == 0 || !strchr(" .-()", *p)) {
			*out++ = *p;
		}
	}
	*out = '\0';
	return s->phone;
}

static const char *
text(struct story *s, unsigned person)
{
	unsigned what = below(s, 8);
	if (what < 2)
		snprintf(s->text, sizeof s->text, "%s %06u%s",
		    what == 0 ? "VERIFY" : "Verify", below(s, 1000000),
		    one_in(s, 4) ? " 🔑" : "");
	else if (what == 2)
		snprintf(s->text, sizeof s->text, "%s",
		    commands[below(s, sizeof commands / sizeof *commands)]);
	else
		snprintf(
		    s->text, sizeof s->text, "%s", people[person].texts[below(s, 3)]);
	return s->text;
}

/* ---------------------------------------------------------------- events */

/* What every webhook has. */
static struct payload_event
event(struct story *s, enum payload_dialect dialect, int64_t id)
{
	struct payload_event ev = {.dialect = dialect, .id = id, .at = s->at};
	ev.time = (enum payload_time)below(s, PAYLOAD_N_TIMES);
	ev.is_php = one_in(s, 2);
	ev.is_sparse = one_in(s, 5);
	return ev;
}

/* Mostly an answer of whoever got a message last. */
static void
incoming(struct story *s, struct payload *out)
{
	static const enum payload_dialect dialects[] = {PAYLOAD_ARTICLE_INCOMING,
	    PAYLOAD_TEXT, PAYLOAD_OLD_NUMBER, PAYLOAD_IMAGE, PAYLOAD_ARTICLE_INCOMING,
	    PAYLOAD_OLD};
	enum { N_DIALECTS = sizeof dialects / sizeof *dialects };
	struct payload_event ev =
	    event(s, dialects[s->n_incoming++ % N_DIALECTS], ++s->id);
	unsigned person = one_in(s, 4) ? below(s, STORY_PEOPLE) : s->reached;
	unsigned company = below(s, sizeof companies / sizeof *companies);
	bool is_company = one_in(s, 10) && ev.dialect != PAYLOAD_OLD_NUMBER &&
			  ev.dialect != PAYLOAD_IMAGE;

	if (ev.dialect != PAYLOAD_ARTICLE_INCOMING) {
		ev.delay = 1 + below(s, 4);
		ev.at -= ev.delay * INT64_C(1000000);
	}
	ev.phone = is_company ? companies[company].name : phone(s, person);
	ev.text = is_company ? companies[company].text : text(s, person);
	ev.device = below(s, 3);
	ev.channel = below(s, 2);
	payload_write(out, &ev);
	s->n_since_incoming = 0;
}

/* Every third fails, for each reason in turn, so that all are soon there. */
static int
last_status(unsigned round)
{
	static const int failures[] = {8, 9, 10, 11, 12, 100, 101};
	unsigned n = sizeof failures / sizeof *failures;
	return round % 3 == 2 ? failures[round / 3 % n] : 7;
}

static void
begin_message(struct story *s)
{
	/* 0 stands for how it ends, -1 for no more. */
	static const int ways[][6] = {{1, 3, 2, 6, 0, -1}, {6, 0, -1}, {1, 2, 6, 0, -1},
	    {1, 6, 0, -1}, {PAYLOAD_UNKNOWN_STATUS, 6, 0, -1}};
	static const int article_ways[][6] = {{1, 6, 0, -1}, {6, 0, -1},
	    {PAYLOAD_UNKNOWN_STATUS, 1, 6, 0, -1}, {1, 6, 0, -1}, {1, 0, -1}};
	enum { N_WAYS = sizeof ways / sizeof *ways };
	struct story_message *m = &s->under_way[s->n_under_way++];
	unsigned round = s->n_messages / 3;

	*m = (struct story_message){
	    .dialect = (enum payload_dialect)(s->n_messages % 3), .id = ++s->id};
	bool is_article = m->dialect == PAYLOAD_ARTICLE_DELIVERY;
	const int *way = is_article ? article_ways[round % N_WAYS] : ways[round % N_WAYS];
	for (; way[m->n_steps] >= 0; m->n_steps++)
		m->steps[m->n_steps] =
		    way[m->n_steps] ? way[m->n_steps] : last_status(round);
	m->is_late = m->n_steps > 2 && one_in(s, 5);
	m->person = below(s, STORY_PEOPLE);
	m->device = below(s, 3);
	m->channel = below(s, 2);
	s->n_messages++;
}

/* A webhook that is late tells a time between those of the two before it. */
static void
go_on(struct story *s, struct story_message *m, struct payload *out)
{
	struct payload_event ev = event(s, m->dialect, m->id);
	unsigned step = m->next++;
	bool is_last = m->next == m->n_steps;
	if (m->is_late && is_last) {
		step--;
		ev.at = m->at[0] + (m->at[1] - m->at[0]) / 2;
	} else if (m->is_late && m->next + 1 == m->n_steps) {
		step++;
	}
	m->at[0] = m->at[1];
	m->at[1] = ev.at;
	ev.status = m->steps[step];
	ev.phone = phone(s, m->person);
	ev.device = m->device;
	ev.channel = m->channel;
	payload_write(out, &ev);
	if (ev.status == 7)
		s->reached = m->person;
	if (is_last)
		*m = s->under_way[--s->n_under_way];
	s->n_since_incoming++;
}

/* ----------------------------------------------------------------- story */

void
story_open(struct story *s, uint32_t seed)
{
	*s = (struct story){.at = BEGIN};
	/* The state that srand48(3) makes of a seed. */
	s->random[0] = 0x330e;
	s->random[1] = (unsigned short)(seed & 0xffff);
	s->random[2] = (unsigned short)(seed >> 16);
	for (unsigned i = 0; i < STORY_PEOPLE; i++)
		s->people[i] = below(s, 10000);
	s->reached = below(s, STORY_PEOPLE);
	s->n_messages = below(s, 1000);
	s->n_incoming = below(s, 1000);
	s->id = 1000000 + below(s, 2000000000);
}

struct text
story_next(struct story *s, int64_t now)
{
	int64_t pause = (1 + (int64_t)below(s, 9)) * 1000000;
	struct payload *out = &s->kept[s->n_kept % STORY_KEPT];
	if (now == 0)
		s->at += pause;
	else
		s->at = now > s->at ? now : s->at + 1;

	if (s->n_kept >= STORY_KEPT && one_in(s, 25)) {
		out = &s->kept[below(s, STORY_KEPT)];
	} else {
		if (one_in(s, 4) || s->n_since_incoming == 5) {
			incoming(s, out);
		} else {
			if (s->n_under_way == 0 ||
			    (s->n_under_way < STORY_UNDER_WAY && one_in(s, 3)))
				begin_message(s);
			go_on(s, &s->under_way[below(s, s->n_under_way)], out);
		}
		s->n_kept++;
	}
	return (struct text){out->bytes, out->len};
}
