/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blinks an LED on GPIO8 of an ESP32-C3, half a second on, half a second off.
 *
 * An application for the stock second stage boot loader, without ESP-IDF: the boot loader maps
 * the descriptor and one function, copies the other code to RAM and jumps to start(). Register addresses are from
 * the ESP32-C3 Technical Reference Manual; chapters are named below.
 */
#include "registers.h"

#define LED 8u
#define HALF_A_SECOND 8000000u /* SYSTIMER counts at 16 MHz */

/* IO MUX and GPIO matrix */
#define GPIO_OUT_SET REGISTER(0x60004008)
#define GPIO_OUT_CLEAR REGISTER(0x6000400c)
#define GPIO_ENABLE_SET REGISTER(0x60004024)
#define GPIO_OUT_SELECT(pin) REGISTER(0x60004554 + 4 * (pin))
#define IO_MUX_PIN(pin) REGISTER(0x60009004 + 4 * (pin))
#define PLAIN_OUTPUT 128u
#define FUNCTION_GPIO (1u << 12)
#define DRIVE_20MA (2u << 10)

/* System timer */
#define SYSTIMER_UNIT0_OP REGISTER(0x60023004)
#define SYSTIMER_UNIT0_LOW REGISTER(0x60023044)
#define SYSTIMER_UPDATE (1u << 30)
#define SYSTIMER_VALID (1u << 29)

/* Watchdog timers: the boot loader leaves that of the RTC running */
#define RTC_WATCHDOG REGISTER(0x60008090)
#define RTC_WATCHDOG_LOCK REGISTER(0x600080a8)
#define SUPER_WATCHDOG REGISTER(0x600080ac)
#define SUPER_WATCHDOG_LOCK REGISTER(0x600080b0)
#define TIMER0_WATCHDOG REGISTER(0x6001f048)
#define TIMER0_WATCHDOG_LOCK REGISTER(0x6001f064)
#define WATCHDOG_KEY 0x50d83aa1u
#define SUPER_WATCHDOG_KEY 0x8f1d312au
#define SUPER_WATCHDOG_FEEDS_ITSELF (1u << 31)

/* ESP-IDF calls this esp_app_desc_t; it has to be the first thing in the image. */
struct descriptor {
    uint32_t magic;
    uint32_t secure_version;
    uint32_t reserved1[2];
    char version[32];
    char project[32];
    char time[16]; /* empty, here and below: the same source gives the same image */
    char date[16];
    char idf_version[32];
    uint8_t elf_sha256[32];
    uint16_t lowest_efuse_revision;
    uint16_t highest_efuse_revision;
    uint8_t log2_page_size;
    uint8_t reserved2[75];
};
_Static_assert(sizeof(struct descriptor) == 256, "as the boot loader expects it");

__attribute__((section(".descriptor"), used)) const struct descriptor descriptor = {
    .magic = 0xabcd5432,
    .version = "1.0.0",
    .project = "blink-esp32c3",
    .highest_efuse_revision = 0xffff,
    .log2_page_size = 16,
};

__attribute__((noinline, section(".in_flash"))) static void stop_watchdogs(void)
{
    RTC_WATCHDOG_LOCK = WATCHDOG_KEY;
    RTC_WATCHDOG = 0;
    RTC_WATCHDOG_LOCK = 0;
    SUPER_WATCHDOG_LOCK = SUPER_WATCHDOG_KEY;
    SUPER_WATCHDOG |= SUPER_WATCHDOG_FEEDS_ITSELF;
    SUPER_WATCHDOG_LOCK = 0;
    TIMER0_WATCHDOG_LOCK = WATCHDOG_KEY;
    TIMER0_WATCHDOG = 0;
    TIMER0_WATCHDOG_LOCK = 0;
}

static uint32_t ticks(void)
{
    SYSTIMER_UNIT0_OP = SYSTIMER_UPDATE;
    while (!(SYSTIMER_UNIT0_OP & SYSTIMER_VALID)) {
    }
    return SYSTIMER_UNIT0_LOW;
}

static void wait(uint32_t duration)
{
    uint32_t begin = ticks();

    while (ticks() - begin < duration) {
    }
}

__attribute__((noreturn, used)) static void blink(void)
{
    stop_watchdogs();
    IO_MUX_PIN(LED) = FUNCTION_GPIO | DRIVE_20MA;
    GPIO_OUT_SELECT(LED) = PLAIN_OUTPUT;
    GPIO_ENABLE_SET = 1u << LED;
    for (;;) {
        GPIO_OUT_SET = 1u << LED;
        wait(HALF_A_SECOND);
        GPIO_OUT_CLEAR = 1u << LED;
        wait(HALF_A_SECOND);
    }
}

/* The boot loader's stack is not ours to keep. */
__attribute__((naked, noreturn, section(".start"))) void start(void)
{
    __asm__("la sp, stack_top\n\tj blink");
}
