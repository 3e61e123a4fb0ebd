/* The ceiling: a handler of libfcgi that reads the body and answers a constant.
 * Threads share one epoll, which has the listener and the idle connections, so
 * that a kept connection holds no thread.  Usage: empty SOCKET THREADS */
#include <fcgiapp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static const char answer[] = "Status: 200\r\nContent-Type: "
			     "application/json\r\n\r\n{\"result\":\"stored\",\"id\":1}";

static int listen_fd, epoll_fd;

static void
watch(int op, int fd)
{
	struct epoll_event ev = {.events = EPOLLIN | EPOLLONESHOT, .data.fd = fd};
	epoll_ctl(epoll_fd, op, fd, &ev);
}

/* One request; the connection, or -1 when it is over. */
static int
serve(int fd)
{
	FCGX_Request r;
	char body[4096];
	FCGX_InitRequest(&r, -1, 0);
	r.ipcFd = fd;
	r.keepConnection = 1;
	if (FCGX_Accept_r(&r) < 0)
		return -1;
	int is_kept = r.keepConnection;
	while (FCGX_GetStr(body, sizeof body, r.in) == (int)sizeof body)
		;
	FCGX_PutStr(answer, sizeof answer - 1, r.out);
	r.keepConnection = 1;
	FCGX_Finish_r(&r);
	if (is_kept || r.ipcFd < 0)
		return r.ipcFd;
	close(r.ipcFd);
	return -1;
}

static void *
work(void *unused)
{
	struct epoll_event ev;
	for (;;) {
		if (epoll_wait(epoll_fd, &ev, 1, -1) < 1)
			continue;
		int fd = ev.data.fd, op = EPOLL_CTL_MOD;
		if (fd == listen_fd) {
			op = EPOLL_CTL_ADD;
			fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
			watch(EPOLL_CTL_MOD, listen_fd);
		}
		if (fd >= 0)
			fd = serve(fd);
		if (fd >= 0)
			watch(op, fd);
	}
	return unused;
}

int
main(int argc, char **argv)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	pthread_t thread;
	if (argc != 3 || strlen(argv[1]) >= sizeof address.sun_path)
		return 2;
	snprintf(address.sun_path, sizeof address.sun_path, "%s", argv[1]);
	FCGX_Init();
	signal(SIGTERM, SIG_DFL); /* libfcgi's handler would not end it */
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(listen_fd, (struct sockaddr *)&address, sizeof address) < 0 ||
	    listen(listen_fd, 4096) < 0) {
		perror(argv[1]);
		return 1;
	}
	chmod(argv[1], 0666);
	watch(EPOLL_CTL_ADD, listen_fd);
	for (int i = atoi(argv[2]); i > 1; i--)
		pthread_create(&thread, NULL, work, NULL);
	work(NULL);
}
