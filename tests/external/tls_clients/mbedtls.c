// SPDX-License-Identifier: Apache-2.0
// usage: mbedtls PORT CA CHAIN KEY PASSPHRASE CRL...
//
// Connects to an MQTT broker on localhost over mutual TLS, as a device with ESP-IDF does.
#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/net_sockets.h>
#include <mbedtls/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void must(const char *what, int result, int status)
{
    if (result == 0)
        return;
    printf("%s: -0x%04x\n", what, (unsigned)-result);
    exit(status);
}

int main(int count, char **given)
{
    static const unsigned char connect[] = "\x10\x0d\x00\x04MQTT\x04\x02\x00\x05\x00\x01x";
    unsigned char answer[4] = {0};
    mbedtls_x509_crt ca, chain;
    mbedtls_x509_crl crls;
    mbedtls_pk_context key;
    mbedtls_entropy_context entropy;
    mbedtls_ctr_drbg_context random;
    mbedtls_net_context net;
    mbedtls_ssl_config config;
    mbedtls_ssl_context ssl;

    mbedtls_x509_crt_init(&ca);
    mbedtls_x509_crt_init(&chain);
    mbedtls_x509_crl_init(&crls);
    mbedtls_pk_init(&key);
    mbedtls_entropy_init(&entropy);
    mbedtls_ctr_drbg_init(&random);
    mbedtls_net_init(&net);
    mbedtls_ssl_config_init(&config);
    mbedtls_ssl_init(&ssl);
    must("ca", mbedtls_x509_crt_parse_file(&ca, given[2]), 3);
    must("chain", mbedtls_x509_crt_parse_file(&chain, given[3]), 3);
    must("key", mbedtls_pk_parse_keyfile(&key, given[4], given[5][0] ? given[5] : NULL), 4);
    for (int one = 6; one < count; one++)
        must("crls", mbedtls_x509_crl_parse_file(&crls, given[one]), 5);
    must("random", mbedtls_ctr_drbg_seed(&random, mbedtls_entropy_func, &entropy, NULL, 0), 6);
    must("config", mbedtls_ssl_config_defaults(&config, MBEDTLS_SSL_IS_CLIENT,
         MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT), 6);
    mbedtls_ssl_conf_rng(&config, mbedtls_ctr_drbg_random, &random);
    mbedtls_ssl_conf_authmode(&config, MBEDTLS_SSL_VERIFY_REQUIRED);
    mbedtls_ssl_conf_ca_chain(&config, &ca, &crls);
    must("own", mbedtls_ssl_conf_own_cert(&config, &chain, &key), 6);
    must("setup", mbedtls_ssl_setup(&ssl, &config), 6);
    must("name", mbedtls_ssl_set_hostname(&ssl, "localhost"), 6);
    must("connect", mbedtls_net_connect(&net, "127.0.0.1", given[1], MBEDTLS_NET_PROTO_TCP), 6);
    mbedtls_ssl_set_bio(&ssl, &net, mbedtls_net_send, mbedtls_net_recv, NULL);
    must("handshake", mbedtls_ssl_handshake(&ssl), 1);
    if (mbedtls_ssl_write(&ssl, connect, sizeof connect - 1) < 0)
        must("write", -1, 2);
    if (mbedtls_ssl_read(&ssl, answer, sizeof answer) != 4 || memcmp(answer, "\x20\x02\x00\x00", 4))
        must("answer", -1, 2);
    return 0;
}
