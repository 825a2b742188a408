# SPDX-License-Identifier: Apache-2.0
"""MQTT 5 over mutual TLS: hints that a channel has changed, and receipts on their way.

address    the address of a broker          link       one connection to a broker
client     the library, on our own sockets  hint       hints: topics, bytes and values
                                            receipts   receipts to a collector, and its answers

A broker decides nothing: it can delay, repeat, drop and invent messages.
"""
