#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Prints the version of this application and how long the gateway has been up.
set -eu

here=$(dirname "$0")
read -r version < "$here/VERSION"
read -r uptime _ < /proc/uptime
printf 'gateway-app %s, up %s s\n' "$version" "$uptime"
