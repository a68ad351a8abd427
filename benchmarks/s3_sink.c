/*
 * A stand-in for S3 that costs next to nothing: it takes objects, throws them away, and answers with their SHA-256, as S3
 * does. It refuses those that were sent with another one.
 * Their ETags are no MD5s, as those of S3 are not where objects are encrypted with the keys of the key service. A real
 * server would take more of the machine's cores than the daemon that is measured.
 *
 *     s3_sink PORT        serves on loopback until it is stopped
 */

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
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

/* One request after the other. */

static const char *value_of(const char *name, const char *head)
{
    size_t size = strlen(name);
    for (const char *line = strstr(head, "\r\n"); line; line = strstr(line, "\r\n")) {
        line += 2;
        if (!strncasecmp(line, name, size))
            return line + size + strspn(line + size, " ");
    }
    return "";
}

static const char stored[] = "HTTP/1.1 200 OK\r\nETag: \"opaque\"\r\nx-amz-server-side-encryption: aws:kms\r\n"
                             "x-amz-checksum-sha256: %s\r\nContent-Length: 0\r\n\r\n";
static const char refused[] = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";

static void *serve(void *argument)
{
    int connection = (int)(intptr_t)argument;
    unsigned char *buffer = malloc(BLOCK + 1);
    EVP_MD_CTX *sha256 = EVP_MD_CTX_new();
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
        long long missing = atoll(value_of("content-length:", (char *)buffer));
        char expected[45];
        snprintf(expected, sizeof expected, "%s", value_of("x-amz-checksum-sha256:", (char *)buffer));
        EVP_DigestInit_ex(sha256, EVP_sha256(), NULL);
        for (;;) {
            size_t here = have - body < (size_t)missing ? have - body : (size_t)missing;
            EVP_DigestUpdate(sha256, buffer + body, here);
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
        unsigned char digest[32], base64[45];
        char answer[300];
        EVP_DigestFinal_ex(sha256, digest, NULL);
        EVP_EncodeBlock(base64, digest, sizeof digest);
        int size = !is_put                           ? sprintf(answer, "HTTP/1.1 204 No Content\r\n\r\n")
                   : strcmp((char *)base64, expected) ? sprintf(answer, refused)
                                                      : sprintf(answer, stored, base64);
        if (send(connection, answer, size, MSG_NOSIGNAL) != size)
            goto over;
    }
over:
    close(connection);
    EVP_MD_CTX_free(sha256);
    free(buffer);
    return NULL;
}

int main(int count, char **arguments)
{
    int on = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
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
