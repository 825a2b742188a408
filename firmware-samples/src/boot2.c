/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The RP2040's second stage boot loader: the ROM copies the first 252 bytes of flash to RAM,
 * checks their CRC and jumps to the first. It lets the flash be read as memory, with the
 * command 03h that every SPI flash knows, slowly; then it starts the program behind it.
 *
 * Registers: RP2040 data sheet, "SSI"; section 2.8.1 for what the ROM does.
 */
#include "registers.h"

#define SSI_CONTROL0 REGISTER(0x18000000)
#define SSI_CONTROL1 REGISTER(0x18000004)
#define SSI_ENABLE REGISTER(0x18000008)
#define SSI_DIVISOR REGISTER(0x18000014)
#define SSI_SPI_CONTROL REGISTER(0x180000f4)

#define FRAME_OF_32_BITS (31u << 16)
#define READ_BACK (3u << 8) /* send command and address, then receive */
#define COMMAND_READ (0x03u << 24)
#define COMMAND_8_BITS (2u << 8)
#define ADDRESS_24_BITS (6u << 2)

#define VECTOR_TABLE_REGISTER REGISTER(0xe000ed08)
#define PROGRAM 0x10000100

__attribute__((noreturn, section(".boot2"))) void boot2(void)
{
    SSI_ENABLE = 0;
    SSI_DIVISOR = 4;
    SSI_CONTROL0 = FRAME_OF_32_BITS | READ_BACK;
    SSI_SPI_CONTROL = COMMAND_READ | COMMAND_8_BITS | ADDRESS_24_BITS;
    SSI_CONTROL1 = 0; /* one frame for each access */
    SSI_ENABLE = 1;

    VECTOR_TABLE_REGISTER = PROGRAM;
    __asm__ volatile("msr msp, %0\n\tbx %1" : : "r"(REGISTER(PROGRAM)), "r"(REGISTER(PROGRAM + 4)));
    __builtin_unreachable();
}
