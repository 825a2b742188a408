/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blinks the LED on GPIO25 of a Pico (RP2040) or Pico 2 (RP2350, Arm cores), a quarter of a
 * second on, a quarter off. Compile with -DRP2040=1 or -DRP2350=1.
 *
 * Nothing is needed from whatever started it: the program brings up the crystal, its timer and
 * its pin by itself, and has no variables to be initialised. Addresses are from the RP2040 and
 * RP2350 data sheets; the blocks are the same, their addresses are not.
 */
#include "registers.h"

#define LED 25u
#define QUARTER_OF_A_SECOND 250000u /* the timer counts microseconds */

#if RP2040
#define CLK_REF_CONTROL REGISTER(0x40008030)
#define RESET_CLEAR REGISTER(0x4000f000) /* an alias that clears the bits that are written as 1 */
#define RESET_DONE REGISTER(0x4000c008)
#define RESET_BLOCKS (1u << 5 | 1u << 8 | 1u << 21) /* IO bank, pads, timer */
#define PIN_CONTROL(pin) REGISTER(0x40014004 + 8 * (pin))
#define PAD(pin) REGISTER(0x4001c004 + 4 * (pin))
#define XOSC 0x40024000
#define TIMER_LOW REGISTER(0x40054028)
#define OUT_SET REGISTER(0xd0000014)
#define OUT_CLEAR REGISTER(0xd0000018)
#define ENABLE_SET REGISTER(0xd0000024)
#elif RP2350
#define CLK_REF_CONTROL REGISTER(0x40010030)
#define RESET_CLEAR REGISTER(0x40023000)
#define RESET_DONE REGISTER(0x40020008)
#define RESET_BLOCKS (1u << 6 | 1u << 9 | 1u << 23)
#define PIN_CONTROL(pin) REGISTER(0x40028004 + 8 * (pin))
#define PAD(pin) REGISTER(0x40038004 + 4 * (pin))
#define XOSC 0x40048000
#define TIMER_LOW REGISTER(0x400b0028)
#define OUT_SET REGISTER(0xd0000018)
#define OUT_CLEAR REGISTER(0xd0000020)
#define ENABLE_SET REGISTER(0xd0000038)
#else
#error "which chip?"
#endif

#define XOSC_CONTROL REGISTER(XOSC + 0x0)
#define XOSC_STATUS REGISTER(XOSC + 0x4)
#define XOSC_STARTUP REGISTER(XOSC + 0xc)
#define XOSC_1_TO_15_MHZ 0xaa0u
#define XOSC_ENABLE (0xfabu << 12)
#define XOSC_STABLE (1u << 31)
#define CLK_REF_FROM_XOSC 2u
#define CRYSTAL_MHZ 12u

#define FUNCTION_SIO 5u
#define PAD_DRIVE_4MA (1u << 4)
#define PAD_SCHMITT (1u << 1)

extern uint32_t stack_top[];
void reset(void);
void stop(void);

/* Interrupts stay off, so that the vectors end with the faults. */
__attribute__((section(".vectors"), used)) void *const vectors[16] = {
    stack_top, (void *)reset, (void *)stop, (void *)stop, (void *)stop, (void *)stop, (void *)stop,
};

#if RP2350
/* What the ROM looks for in the first 4 KiB: a block loop of one block, IMAGE_DEF. */
__attribute__((section(".image_def"), used)) const uint32_t image_def[5] = {
    0xffffded3, /* begin */
    0x10210142, /* image type, 1 word: executable, secure, Arm, RP2350 */
    0x000001ff, /* last item, 1 word of items */
    0x00000000, /* the next block is this one */
    0xab123579, /* end */
};
#endif

static void start_timer(void)
{
    XOSC_STARTUP = 94; /* 2 ms, in units of 256 cycles */
    XOSC_CONTROL = XOSC_1_TO_15_MHZ | XOSC_ENABLE;
    while (!(XOSC_STATUS & XOSC_STABLE)) {
    }
    CLK_REF_CONTROL = CLK_REF_FROM_XOSC;
#if RP2040
    REGISTER(0x4005802c) = 1u << 9 | CRYSTAL_MHZ; /* the watchdog's tick drives the timer */
#else
    REGISTER(0x4010801c) = CRYSTAL_MHZ; /* the tick generator of TIMER0: cycles, then start */
    REGISTER(0x40108018) = 1;
#endif
}

static void wait(uint32_t duration)
{
    uint32_t begin = TIMER_LOW;

    while (TIMER_LOW - begin < duration) {
    }
}

__attribute__((noreturn)) void reset(void)
{
    RESET_CLEAR = RESET_BLOCKS;
    while ((RESET_DONE & RESET_BLOCKS) != RESET_BLOCKS) {
    }
    start_timer();
    PIN_CONTROL(LED) = FUNCTION_SIO;
    PAD(LED) = PAD_DRIVE_4MA | PAD_SCHMITT; /* on the RP2350 this ends the pad's isolation, too */
    ENABLE_SET = 1u << LED;
    for (;;) {
        OUT_SET = 1u << LED;
        wait(QUARTER_OF_A_SECOND);
        OUT_CLEAR = 1u << LED;
        wait(QUARTER_OF_A_SECOND);
    }
}

__attribute__((noreturn)) void stop(void)
{
    for (;;) {
    }
}
