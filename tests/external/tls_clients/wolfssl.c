// SPDX-License-Identifier: Apache-2.0
// usage: wolfssl PORT CAS CHAIN KEY PASSPHRASE CRL...
//
// Connects to an MQTT broker on localhost over mutual TLS.
#include <wolfssl/options.h>
#include <wolfssl/ssl.h>
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static const char *passphrase;

static int ask(char *place, int size, int writing, void *more)
{
    (void)writing, (void)more;
    if ((int)strlen(passphrase) >= size)
        return 0;
    strcpy(place, passphrase);
    return (int)strlen(passphrase);
}

static void must(const char *what, int result, int status)
{
    if (result == WOLFSSL_SUCCESS)
        return;
    printf("%s: %d\n", what, result);
    exit(status);
}

int main(int count, char **given)
{
    static const char connect_[] = "\x10\x0d\x00\x04MQTT\x04\x02\x00\x05\x00\x01x";
    char answer[4] = {0};
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_port = htons(atoi(given[1]))};
    int net = socket(AF_INET, SOCK_STREAM, 0), sent;
    WOLFSSL_CTX *context;
    WOLFSSL *ssl;

    passphrase = given[5];
    wolfSSL_Init();
    context = wolfSSL_CTX_new(wolfTLS_client_method());
    wolfSSL_CTX_set_default_passwd_cb(context, ask);
    wolfSSL_CTX_set_verify(context, WOLFSSL_VERIFY_PEER, NULL);
    must("ca", wolfSSL_CTX_load_verify_locations(context, given[2], NULL), 3);
    must("chain", wolfSSL_CTX_use_certificate_chain_file(context, given[3]), 3);
    must("key", wolfSSL_CTX_use_PrivateKey_file(context, given[4], WOLFSSL_FILETYPE_PEM), 4);
    must("crls", wolfSSL_CTX_EnableCRL(context, WOLFSSL_CRL_CHECK | WOLFSSL_CRL_CHECKALL), 5);
    // It reads one list of a file, and only that of a CA that it has.
    for (int one = 6; one < count; one++)
        must("crl", wolfSSL_CTX_LoadCRLFile(context, given[one], WOLFSSL_FILETYPE_PEM), 5);
    inet_pton(AF_INET, "127.0.0.1", &place.sin_addr);
    must("connect", connect(net, (struct sockaddr *)&place, sizeof place) + 1, 6);
    ssl = wolfSSL_new(context);
    must("name", wolfSSL_check_domain_name(ssl, "localhost"), 6);
    wolfSSL_set_fd(ssl, net);
    must("handshake", wolfSSL_connect(ssl) == WOLFSSL_SUCCESS ? WOLFSSL_SUCCESS
         : wolfSSL_get_error(ssl, 0), 1);
    sent = wolfSSL_write(ssl, connect_, sizeof connect_ - 1);
    if (sent < 0 || wolfSSL_read(ssl, answer, 4) != 4 || memcmp(answer, "\x20\x02\x00\x00", 4))
        must("answer", -1, 2);
    return 0;
}
