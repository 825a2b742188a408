/* SPDX-License-Identifier: Apache-2.0 */
/* A register is a 32-bit word at a fixed address; all programs here do nothing else. */
#ifndef REGISTERS_H
#define REGISTERS_H

#include <stdint.h>

#define REGISTER(address) (*(volatile uint32_t *)(uintptr_t)(address))

#endif
