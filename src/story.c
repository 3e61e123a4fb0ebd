#include "story.h"

#include "status.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define N_OF(array) ((unsigned)(sizeof(array) / sizeof *(array)))

enum {
	UNKNOWN_STATUS = 4,
	DELIVERED = 7,
	N_FAILURES = 7,
	N_PEOPLE = 12,
	N_COMPANIES = 3
};

static const int64_t SECOND = 1000000;
static const int64_t BEGIN = INT64_C(1768471200000000); /* 2026-01-15T10:00:00Z */

/* All texts stand as in JSON: with its escapes. */
static const struct device {
	const char *word;
	int id;
	const char *name;
} devices[] = {{"device_k3f9", 10452, "Front desk"},
    {"device_xyz", 10877, "Büro \\\"Nord\\\""}, {"device_7b2a", 11903, "Склад № 2"}};

/* Failures first. */
static const struct {
	int id;
	const char *message;
} statuses[] = {{8, "Not sent"}, {9, "Not delivered"}, {10, "Refused by the operator"},
    {11, "The number does not exist"}, {12, "Expired"}, {100, "The device is offline"},
    {101, "No credit on the SIM"}, {1, "New"}, {3, "In the queue"},
    {2, "Taken by the device"}, {6, "Sent"}, {DELIVERED, "Delivered"},
    {UNKNOWN_STATUS, "Unknown"}};

/* Numbers that the countries keep for fiction; an x is any digit.  Behind those who
 * can be written to: senders with a name. */
static const struct {
	const char *number;
	const char *texts[3];
} people[N_PEOPLE + N_COMPANIES] = {
    {"+1 (202) 555-01xx", {"Hello, I need help with my order", "Thanks, that's great!",
			      "Is it \\\"ready\\\"?\\nI can come at 5 / 5:30 pm"}},
    {"+44 7700 900xxx", {"Running 10 min late, sorry 🙏", "Can we move it to Tuesday?",
			    "Ta! See you at the café ☕️"}},
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
	{"C:\\\\orders\\\\17\\tdone", "👍🏽👩‍👩‍👧 see you",
	    "I wrote to you twice last week about the two chairs and the table, and "
	    "nobody has called me back. The table has a scratch, one chair is the wrong "
	    "colour, and the van left before I could look. Please send somebody!"}},
    {"ParcelPost",
	{"Your parcel comes today", "Parcel 3391 waits next door", "Delivered!"}},
    {"Stadtwerke", {"Ihre Rechnung ist da", "Strom ab 9 Uhr aus", "Ihr Zählerstand?"}},
    {"InfoSMS", {"Your data volume is used up: 100 %", "Welcome to Sweden!", "+ 5 GB"}}};

static const char *const commands[] = {
    "STOP", "HELP", "YES", "NO", "Stop", "yes please", "HELP: order 4471"};

static unsigned
below(struct story *s, unsigned n)
{
	return (unsigned)((uint64_t)nrand48(s->random) * n >> 31);
}

/* ---------------------------------------------------------------- bodies */

/* With " for each `.  Every other one, by chance, is written as PHP's json_encode()
 * does by default: \u for all but ASCII, in UTF-16, and \/ for /. */
static __attribute__((format(printf, 3, 4))) void
write_body(struct story *s, char *out, const char *format, ...)
{
	char plain[STORY_BODY / 3]; /* no byte becomes more than three */
	bool is_php = below(s, 2);
	va_list ap;
	va_start(ap, format);
	vsnprintf(plain, sizeof plain, format, ap);
	va_end(ap);
	for (const char *p = plain; *p;) {
		uint32_t c = (unsigned char)*p++;
		if (c == '`')
			c = '"';
		if (is_php && c == '/')
			*out++ = '\\';
		if (!is_php || c < 0x80) {
			*out++ = (char)c;
			continue;
		}
		int more = c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
		for (c &= 0x3fU >> more; more > 0; more--)
			c = c << 6 | ((unsigned char)*p++ & 0x3f);
		if (c >= 0x10000) {
			out += sprintf(out, "\\u%04" PRIx32, 0xd7c0 + (c >> 10));
			c = 0xdc00 + (c & 0x3ff);
		}
		out += sprintf(out, "\\u%04" PRIx32, c);
	}
	*out = '\0';
}

/* A time that tells no zone is UTC.  The zones have no daylight saving time, so that
 * their offset is always the same. */
static const struct form {
	int64_t unit;     /* microseconds, of a number since 1970; 0: no number */
	int64_t zone;     /* seconds east of UTC */
	int64_t fraction; /* shown when it is at least so many microseconds */
	const char *before;
	char separator;
	const char *after;
} forms[] = {
    {0, 0, 1, "`", 'T', "Z`"},
    {0, 7200, 1, "`", 'T', "+02:00`"},
    {0, 0, 1000000, "`", ' ', "`"},
    {0, 0, 0, "`", ' ', "`"},
    {1000000, 0, 0, "", ' ', ""},
    {1000, 0, 0, "", ' ', ""},
    {0, 7200, 0, "{`date`:`", ' ', "`,`timezone_type`:1,`timezone`:`+02:00`}"},
    {0, 19800, 0, "{`date`:`", ' ', "`,`timezone_type`:3,`timezone`:`Asia/Kolkata`}"},
};

/* By a form of the above, of which the article has but the first.  Returns buf. */
static const char *
datetime(char buf[128], const struct form *form, int64_t at)
{
	time_t seconds = (time_t)(at / SECOND + form->zone);
	struct tm tm;
	char date[16], hours[16], fraction[32] = "";
	gmtime_r(&seconds, &tm);
	strftime(date, sizeof date, "%Y-%m-%d", &tm);
	strftime(hours, sizeof hours, "%H:%M:%S", &tm);
	if (at % SECOND >= form->fraction)
		snprintf(fraction, sizeof fraction, ".%06" PRId64, at % SECOND);
	if (form->unit)
		snprintf(buf, 128, "%" PRId64, at / form->unit);
	else
		snprintf(buf, 128, "%s%s%c%s%s%s", form->before, date, form->separator,
		    hours, fraction, form->after);
	return buf;
}

/* ---------------------------------------------------------------- people */

/* As it stands in the table; else without punctuation, mostly, and with 00 for +. */
static const char *
phone(struct story *s, unsigned person, bool is_plain)
{
	unsigned style = is_plain ? 2 : below(s, 6), digits = s->digits / (person + 1);
	char *out = s->phone;
	for (const char *p = people[person].number; *p; p++) {
		if (*p == 'x') {
			*out++ = (char)('0' + digits % 10);
			digits /= 10;
		} else if (*p == '+' && style == 1) {
			out = stpcpy(out, "00");
		} else if (style == 0 || !strchr(" .-()", *p)) {
			*out++ = *p;
		}
	}
	*out = '\0';
	return s->phone;
}

/* A text of this person; verify is room for one. */
static const char *
text(struct story *s, unsigned person, char verify[32])
{
	unsigned what = below(s, 8), number = below(s, 1000000);
	if (what > 2 || person >= N_PEOPLE)
		return people[person].texts[number % 3];
	if (what == 2)
		return commands[number % N_OF(commands)];
	snprintf(verify, 32, "%s %06u%s", what == 0 ? "VERIFY" : "Verify", number,
	    number % 4 ? "" : " 🔑");
	return verify;
}

/* ---------------------------------------------------------------- events */

/* Mostly an answer of whoever got a message last; the five dialects by turns.  Of a
 * number 0 %.0 prints nothing. */
static void
incoming(struct story *s, char *out)
{
	enum { ARTICLE, TYPED, NUMBER, IMAGE, OLD, N_DIALECTS };
	static const char *const media[] = {"", ",`type`:`text`", "",
	    ",`type`:`img`,`img_url`:`https://smsgateway24.example/img/", ""};
	char date[128], sent[128], verify[32], from[128] = "";
	unsigned dialect = s->n_incoming++ % N_DIALECTS;
	bool is_old = dialect == NUMBER || dialect == OLD, is_sparse = !below(s, 5);
	unsigned who = below(s, 40), person = s->reached;
	if (who < 10)
		person = who % 4 == 0 && dialect != NUMBER ? N_PEOPLE + who / 4 : who;
	const char *number = phone(s, person, dialect == NUMBER);
	const char *body = dialect == IMAGE ? "" : text(s, person, verify);
	const struct device *device = &devices[below(s, N_OF(devices))];
	const struct form *form = &forms[below(s, N_OF(forms))];
	unsigned channel = below(s, 2), id = ++s->id;
	int64_t at = s->at - (1 + (int64_t)below(s, 4)) * SECOND;
	s->n_since_incoming = 0;
	if (dialect == ARTICLE) {
		write_body(s, out,
		    "{`event`:`incoming_sms`,`phone`:`%s`,`message`:`%s`,`timestamp`:%s,"
		    "`device_id`:`%s`}",
		    number, body, datetime(date, forms, s->at), device->word);
		return;
	}
	if (dialect != IMAGE || !is_sparse)
		snprintf(from, sizeof from, ",`%s`:%u,`device_id`:%d,`device_name`:`%s`",
		    is_old ? "sim" : "channel_id", channel, device->id, device->name);
	const char *quote = dialect == NUMBER ? "" : "`";
	const char *id_quote = is_sparse ? "`" : "";
	write_body(s, out,
	    "{`address`:%s%s%s,`date`:%s,`date_sent`:%s,`body`:`%s`,`internal_id`:%s%.0u,"
	    "`sms_id`:%s%u%s%s%s%.0u%s}",
	    quote, number + (dialect == NUMBER), quote, datetime(date, form, s->at),
	    is_old && is_sparse ? "null" : datetime(sent, form, at), body,
	    is_sparse ? "null" : "", is_sparse ? 0 : 1 + id % 9973, id_quote, id,
	    id_quote, from, media[dialect], dialect == IMAGE ? id : 0,
	    dialect == IMAGE ? ".jpg`" : "");
}

/* By turns in the article's dialect, with channel_id, and with sim.  Every third
 * that all three have had fails, for each reason in turn: all are soon there. */
static void
begin_message(struct story *s)
{
	/* Digits of status_id; 7 is how it ends.  Those up to 2 are one word to the
	 * article, which has words alone: it goes the shorter ways. */
	static const char ways[][6] = {"67", "167", "467", "1267", "13267"};
	struct story_message *m = &s->under_way[s->n_under_way++];
	unsigned dialect = s->n_messages % 3, round = s->n_messages++ / 3;
	const char *way = ways[below(s, dialect == 0 ? 3 : 5)];
	size_t n = strlen(way);
	*m = (struct story_message){.id = ++s->id, .dialect = dialect};
	m->person = below(s, N_PEOPLE);
	m->device = below(s, N_OF(devices));
	m->last = round % 3 < 2 ? DELIVERED : statuses[round / 3 % N_FAILURES].id;
	m->is_late = below(s, 7) == 0;
	memcpy(m->steps, way, n);
	m->steps[n - 2] = way[n - 2 + m->is_late];
	m->steps[n - 1] = way[n - 1 - m->is_late];
}

/* The ids of the article are strings without an order: the bits, well stirred. */
static void
delivery(struct story *s, char *out, const struct story_message *m, int status)
{
	char time[128];
	const struct device *device = &devices[m->device];
	const struct form *form = &forms[below(s, N_OF(forms))];
	const char *number = phone(s, m->person, false);
	bool is_sparse = !below(s, 5);
	const char *quote = is_sparse ? "" : "`", *id_quote = is_sparse ? "`" : "";
	unsigned i = 0;
	while (statuses[i].id != status)
		i++;
	if (m->dialect == 0)
		write_body(s, out,
		    "{`event`:`delivery_status`,`message_id`:`%011" PRIx64 "`,"
		    "`phone`:`%s`,`status`:`%s`,`timestamp`:%s,`device_id`:`%s`}",
		    ((uint64_t)m->id * UINT64_C(0x9e3779b97f4a7c15)) >> 20, number,
		    status == UNKNOWN_STATUS ? "accepted" : status_of_id(status),
		    datetime(time, forms, m->at), device->word);
	else
		write_body(s, out,
		    "{`sms_id`:%s%u%s,`status_id`:%d,`status_message`:%s%s%s,"
		    "`sendto`:`%s`,`senttime`:%s,`%s`:%u,`device_id`:%d}",
		    id_quote, m->id, id_quote, status, quote,
		    is_sparse ? "null" : statuses[i].message, quote, number,
		    datetime(time, form, m->at), m->dialect == 1 ? "channel_id" : "sim",
		    m->id % 2, device->id);
}

/* A webhook that is late tells a time before that of the end. */
static void
go_on(struct story *s, struct story_message *m, char *out)
{
	char step = m->steps[m->next++];
	int status = step == '7' ? m->last : step - '0';
	bool is_last = m->steps[m->next] == '\0';
	m->at = is_last && m->is_late ? m->at - SECOND / 2 : s->at;
	delivery(s, out, m, status);
	if (status == DELIVERED)
		s->reached = m->person;
	if (is_last)
		*m = s->under_way[--s->n_under_way];
	s->n_since_incoming++;
}

/* ----------------------------------------------------------------- story */

void
story_open(struct story *s, uint32_t seed)
{
	/* The state that srand48(3) makes of a seed. */
	*s = (struct story){.at = BEGIN,
	    .random = {0x330e, (unsigned short)seed, (unsigned short)(seed >> 16)}};
	s->digits = below(s, 2000000000);
	s->reached = below(s, N_PEOPLE);
	s->n_messages = below(s, 1000);
	s->n_incoming = below(s, 1000);
	s->id = 1000000 + below(s, 2000000000);
}

const char *
story_next(struct story *s, int64_t now)
{
	int64_t pause = (1 + (int64_t)below(s, 9)) * SECOND;
	if (now == 0)
		now = s->at + pause;
	s->at = now > s->at ? now : s->at + 1;
	if (s->n_kept >= STORY_KEPT && !below(s, 25))
		return s->kept[below(s, STORY_KEPT)];

	char *out = s->kept[s->n_kept++ % STORY_KEPT];
	if (!below(s, 4) || s->n_since_incoming == 5) {
		incoming(s, out);
	} else {
		if (s->n_under_way == 0 ||
		    (s->n_under_way < STORY_UNDER_WAY && !below(s, 3)))
			begin_message(s);
		go_on(s, &s->under_way[below(s, s->n_under_way)], out);
	}
	return out;
}
