#include "unit.h"

#include "credentials.h"

#define V (char *)/* a string as environ has it */

static char *const basic_env[] = {V "REQUEST_METHOD=POST", V "PATH_INFO=/tok",
    V "CONTENT_LENGTH=5", V "CONTENT_TYPE=application/json", V "HTTP_X_WEBHOOK_TOKEN=hdr",
    V "REMOTE_ADDR=192.0.2.1", V "QUERY_STRING=a=1&token=q%2Dt&token=z",
    V "HTTP_AUTHORIZATION=Basic dXNlcjpwYTpzcw==", V "PATH_INFO=/second", NULL};

static void
environment(void **state)
{
	struct request req;
	(void)state;
	request_init(&req, basic_env, INT64_MAX, 100);
	assert_text(req.method, "POST");
	assert_text(req.path, "/tok");
	assert_text(req.content_type, "application/json");
	assert_text(req.remote_addr, "192.0.2.1");
	assert_text(req.content_encoding, NULL);
	assert_int_equal(req.content_length, 5);
	assert_int_equal(req.body_err, ERR_OK);
}

static void
uri_when_no_path(void **state)
{
	static const char *const cases[][2] = {{"REQUEST_URI=/smshook/tok", "tok"},
	    {"REQUEST_URI=/smshook/tok/?x=/y", "tok"}, {"REQUEST_URI=/", ""},
	    {"REQUEST_URI=", ""}};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char *env[] = {V cases[i][0], V "PATH_INFO=", NULL};
		struct request req;
		request_init(&req, env, INT64_MAX, 100);
		assert_text(req.path, cases[i][1]);
	}
}

static void
content_lengths(void **state)
{
	static const struct {
		const char *pair;
		enum err err;
	} cases[] = {{"CONTENT_LENGTH=", ERR_OK}, {"CONTENT_LENGTH=0", ERR_OK},
	    {"CONTENT_LENGTH=100", ERR_OK}, {"CONTENT_LENGTH=101", ERR_TOO_LARGE},
	    {"CONTENT_LENGTH=-1", ERR_BODY_LENGTH},
	    {"CONTENT_LENGTH=+5", ERR_BODY_LENGTH},
	    {"CONTENT_LENGTH=0x10", ERR_BODY_LENGTH},
	    {"CONTENT_LENGTH=5 ", ERR_BODY_LENGTH},
	    {"CONTENT_LENGTH=18446744073709551617", ERR_BODY_LENGTH},
	    {"CONTENT_LENGTH=999999999999999999", ERR_TOO_LARGE}};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char *env[] = {V cases[i].pair, NULL};
		struct request req;
		request_init(&req, env, INT64_MAX, 100);
		if (req.body_err != cases[i].err)
			fail_msg("%s", cases[i].pair);
	}
}

static void
bodies(void **state)
{
	struct request req;
	(void)state;
	request_init(&req, basic_env, INT64_MAX, 100);
	request_set_body(&req, TEXT("12345"), 100);
	assert_int_equal(req.body_err, ERR_OK);
	request_set_body(&req, TEXT("1234567"), 100);
	assert_int_equal(req.body_err, ERR_OK);
	assert_text(req.body, "12345");
	request_set_body(&req, TEXT("1234"), 100);
	assert_int_equal(req.body_err, ERR_BODY_CUT);
	char *env[] = {V "REQUEST_METHOD=POST", NULL};
	request_init(&req, env, INT64_MAX, 3);
	request_set_body(&req, TEXT("1234"), 3);
	assert_int_equal(req.body_err, ERR_TOO_LARGE);
}

static void
every_place(void **state)
{
	struct request req;
	struct credentials c;
	(void)state;
	request_init(&req, basic_env, INT64_MAX, 100);
	credentials_read(&c, &req);
	assert_text(c.candidates[0], "tok");
	assert_text(c.candidates[1], "q-t");
	assert_text(c.candidates[2], NULL);
	assert_text(c.candidates[3], "pa:ss");
	assert_text(c.candidates[4], "hdr");
	char *env[] = {V "HTTP_AUTHORIZATION=bearer  abc", V "PATH_INFO=/%41b", NULL};
	request_init(&req, env, INT64_MAX, 100);
	credentials_read(&c, &req);
	assert_text(c.candidates[0], "Ab");
	assert_text(c.candidates[1], NULL);
	assert_text(c.candidates[2], "abc");
	assert_text(c.candidates[3], NULL);
	assert_text(c.candidates[4], NULL);
}

static void
bad_credentials(void **state)
{
	static const char *const values[] = {"Basic", "Basic ", "Basic !!!!",
	    "Basic dXNlcg==", "Basic dXN", "Bearer", "Digest abc", "", "Basic ===="};
	(void)state;
	for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
		struct request req = {.authorization = text_of(values[i])};
		struct credentials c;
		credentials_read(&c, &req);
		for (int k = 0; k < CREDENTIALS_MAX; k++)
			if (c.candidates[k].ptr)
				fail_msg("%s", values[i]);
	}
}

static void
segments(void **state)
{
	(void)state;
	assert_text(credentials_segment(TEXT("/a")), "a");
	assert_text(credentials_segment(TEXT("a")), "a");
	assert_text(credentials_segment(TEXT("//a//")), "a");
	assert_text(credentials_segment(TEXT("/a/b")), NULL);
	assert_text(credentials_segment(TEXT("/")), NULL);
	assert_text(credentials_segment(TEXT("")), NULL);
	assert_text(credentials_segment((struct text){0}), NULL);
}

static void
responses(void **state)
{
	struct response res = {0};
	struct request req = {0};
	req.method = TEXT("POST"); /* gcc 10 warns of TEXT() as an initializer */
	char out[512];
	(void)state;
	response_problem(&res, ERR_NOT_JSON, TEXT("':' is expected at byte 3"));
	res.allow = "POST";
	out[response_header(&res, out, sizeof out)] = '\0';
	assert_non_null(strstr(out, "Status: 400 Bad Request\r\n"));
	assert_non_null(strstr(out, "Content-Type: application/problem+json\r\n"));
	assert_non_null(strstr(out, "Allow: POST\r\n"));
	assert_null(strstr(out, "Retry-After"));
	assert_non_null(strstr(res.body, "\"status\":400"));
	assert_non_null(strstr(res.body, "':' is expected at byte 3"));
	assert_int_equal(response_body(&res, &req).len, res.len);
	req.method = TEXT("HEAD");
	assert_int_equal(response_body(&res, &req).len, 0);
	response_problem(&res, ERR_DB_DOWN, (struct text){0});
	out[response_header(&res, out, sizeof out)] = '\0';
	assert_non_null(strstr(out, "Retry-After: "));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(environment),
	    cmocka_unit_test(uri_when_no_path), cmocka_unit_test(content_lengths),
	    cmocka_unit_test(bodies), cmocka_unit_test(every_place),
	    cmocka_unit_test(bad_credentials), cmocka_unit_test(segments),
	    cmocka_unit_test(responses)};
	return cmocka_run_group_tests_name("request", tests, NULL, NULL);
}
