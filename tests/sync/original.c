/* A client of emulab-syncd, written for these tests from the documented protocol, in the types that the protocol
 * is given in: what a C compiler lays out, this host's byte order, a blocking socket, and an answer that ends with
 * the connection.
 *
 * original PORT tcp|udp NAME COUNT ERROR FLAGS: COUNT 0 waits, any other initialises. Exits with the answer, and
 * with 76 where there is none.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PROTOCOL_FAILURE = 76 };

struct barrier_request {
    char name[64];
    short request, flags;
    int count, error;
};

static int said(int peer, int stream)
{
    char heard[4096];
    size_t have = 0;
    ssize_t got;
    int value;

    do {
        got = read(peer, heard + have, sizeof heard - have);
        if (got < 0)
            return PROTOCOL_FAILURE;
        have += (size_t)got;
    } while (stream && got > 0);
    if (have != sizeof value)
        return PROTOCOL_FAILURE;
    memcpy(&value, heard, sizeof value);
    return value < 0 ? PROTOCOL_FAILURE : value;
}

int main(int argc, char **argv)
{
    struct sockaddr_in server = {.sin_family = AF_INET};
    struct barrier_request request;
    int stream, peer;

    if (argc != 7)
        return 64;
    stream = strcmp(argv[2], "tcp") == 0;
    memset(&request, 0, sizeof request);
    snprintf(request.name, sizeof request.name, "%s", argv[3]);
    request.count = atoi(argv[4]);
    request.request = request.count ? 1 : 2;
    request.error = atoi(argv[5]);
    request.flags = (short)atoi(argv[6]);
    server.sin_port = htons((unsigned short)atoi(argv[1]));
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    peer = socket(AF_INET, stream ? SOCK_STREAM : SOCK_DGRAM, 0);
    if (peer < 0 || connect(peer, (struct sockaddr *)&server, sizeof server) != 0)
        return PROTOCOL_FAILURE;
    if (write(peer, &request, sizeof request) != (ssize_t)sizeof request)
        return PROTOCOL_FAILURE;
    return said(peer, stream);
}
