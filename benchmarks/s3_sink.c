/*
 * A stand-in for S3 that costs next to nothing: it takes objects, throws them away, and answers with their MD5, as S3 does.
 * A real server would take more of the machine's cores than the daemon that is measured.
 *
 *     s3_sink PORT        serves on loopback until it is stopped
 */

#include <arpa/inet.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEAD 16384
#define BLOCK 262144

/* MD5, as RFC 1321 has it. */

typedef struct {
    uint32_t state[4];
    uint64_t length;
    unsigned char rest[64];
} md5_t;

static uint32_t sines[64];
static const unsigned char shifts[16] = {7, 12, 17, 22, 5, 9, 14, 20, 4, 11, 16, 23, 6, 10, 15, 21};

static void md5_block(uint32_t *state, const unsigned char *data)
{
    uint32_t words[16], a = state[0], b = state[1], c = state[2], d = state[3];
    memcpy(words, data, 64);
    for (int i = 0; i < 64; i++) {
        uint32_t mixed;
        int which;
        switch (i / 16) {
        case 0: mixed = (b & c) | (~b & d); which = i; break;
        case 1: mixed = (d & b) | (~d & c); which = (5 * i + 1) % 16; break;
        case 2: mixed = b ^ c ^ d; which = (3 * i + 5) % 16; break;
        default: mixed = c ^ (b | ~d); which = 7 * i % 16;
        }
        uint32_t sum = a + mixed + sines[i] + words[which];
        int shift = shifts[i / 16 * 4 + i % 4];
        a = d;
        d = c;
        c = b;
        b += sum << shift | sum >> (32 - shift);
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
}

static void md5_begin(md5_t *md5)
{
    *md5 = (md5_t){.state = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476}};
}

static void md5_add(md5_t *md5, const unsigned char *data, size_t size)
{
    size_t filled = md5->length % 64;
    md5->length += size;
    if (filled) {
        size_t more = size < 64 - filled ? size : 64 - filled;
        memcpy(md5->rest + filled, data, more);
        if (filled + more < 64)
            return;
        md5_block(md5->state, md5->rest);
        data += more;
        size -= more;
    }
    for (; size >= 64; data += 64, size -= 64)
        md5_block(md5->state, data);
    memcpy(md5->rest, data, size);
}

static void md5_end(md5_t *md5, char *hex)
{
    static const unsigned char padding[64] = {0x80};
    uint64_t bits = md5->length * 8;
    md5_add(md5, padding, (119 - md5->length % 64) % 64 + 1);
    md5_add(md5, (unsigned char *)&bits, 8);
    for (int i = 0; i < 16; i++)
        sprintf(hex + 2 * i, "%02x", md5->state[i / 4] >> i % 4 * 8 & 255);
}

/* One request after the other. */

static long long content_length(const char *head)
{
    for (const char *line = strstr(head, "\r\n"); line; line = strstr(line, "\r\n")) {
        line += 2;
        if (!strncasecmp(line, "content-length:", 15))
            return atoll(line + 15);
    }
    return 0;
}

static void *serve(void *argument)
{
    int connection = (int)(intptr_t)argument;
    unsigned char *buffer = malloc(BLOCK + 1);
    size_t have = 0;
    for (;;) {
        char *end;
        while (buffer[have] = 0, !(end = strstr((char *)buffer, "\r\n\r\n"))) {
            ssize_t more = have < HEAD ? recv(connection, buffer + have, BLOCK - have, 0) : 0;
            if (more <= 0)
                goto over;
            have += more;
        }
        *end = 0;
        size_t body = end + 4 - (char *)buffer;
        int is_put = !strncmp((char *)buffer, "PUT ", 4);
        long long missing = content_length((char *)buffer);
        md5_t md5;
        md5_begin(&md5);
        for (;;) {
            size_t here = have - body < (size_t)missing ? have - body : (size_t)missing;
            md5_add(&md5, buffer + body, here);
            missing -= here;
            body += here;
            if (!missing)
                break;
            ssize_t more = recv(connection, buffer, BLOCK, 0);
            if (more <= 0)
                goto over;
            have = more;
            body = 0;
        }
        memmove(buffer, buffer + body, have - body);
        have -= body;
        char hex[33], answer[200];
        md5_end(&md5, hex);
        int size = is_put ? sprintf(answer, "HTTP/1.1 200 OK\r\nETag: \"%s\"\r\nContent-Length: 0\r\n\r\n", hex)
                          : sprintf(answer, "HTTP/1.1 204 No Content\r\n\r\n");
        if (send(connection, answer, size, MSG_NOSIGNAL) != size)
            goto over;
    }
over:
    close(connection);
    free(buffer);
    return NULL;
}

int main(int count, char **arguments)
{
    int on = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    for (int i = 0; i < 64; i++)
        sines[i] = (uint32_t)(long long)(fabs(sin(i + 1)) * 4294967296.0);
    address.sin_port = htons(count == 2 ? atoi(arguments[1]) : 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 128)) {
        perror("s3_sink");
        return 1;
    }
    for (;;) {
        int connection = accept(listener, NULL, NULL);
        if (connection < 0)
            continue;
        pthread_t thread;
        setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        pthread_create(&thread, NULL, serve, (void *)(intptr_t)connection);
        pthread_detach(thread);
    }
}
