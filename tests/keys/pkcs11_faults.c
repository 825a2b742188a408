/* SPDX-License-Identifier: Apache-2.0
 * A PKCS#11 library for tests: it passes every call to the library that FAULTS_MODULE names, but for
 * the faults in the file that FAULTS names. Each line of it is a word and a number in hexadecimal:
 *
 *   login VALUE        C_Login fails with a return value
 *   context VALUE      C_Login for one signature (CKU_CONTEXT_SPECIFIC) fails
 *   sign VALUE         C_Sign fails
 *   slots VALUE        C_GetSlotList fails
 *   token VALUE        C_GetTokenInfo fails
 *   flags BITS         further flags of each token
 *   noflags BITS       flags that each token has not
 *   rawpoint 1         CKA_EC_POINT of a P-256 key comes without the DER around it
 *   nolist CLASS       C_FindObjectsInit finds no objects of a class
 *   short 1            C_Sign gives one byte less
 *   flip 1             C_Sign gives a signature with a flipped bit
 *
 * Every login is a line in the file FAULTS.log, so that tests can count them.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long ulong;
typedef struct { ulong type; void *value; ulong size; } attribute;
typedef struct { unsigned char version[2]; ulong (*call[68])(); } functions;
typedef struct { char names[32 + 32 + 16 + 16]; ulong flags; } token_info;

/* Places of functions in CK_FUNCTION_LIST of PKCS#11 2.40. */
enum { LIST = 4, TOKEN_INFO = 6, LOGIN = 18, GET_ATTRIBUTE = 24, FIND_INIT = 26, SIGN = 43 };

static functions *real;
static functions ours;

static int fault(const char *wanted, ulong *number)
{
    char word[32];
    int found = 0;
    const char *path = getenv("FAULTS");
    FILE *file = path ? fopen(path, "r") : NULL;
    ulong value;
    if (!file)
        return 0;
    while (fscanf(file, "%31s %lx", word, &value) == 2)
        if (!strcmp(word, wanted)) {
            *number = value;
            found = 1;
        }
    fclose(file);
    return found;
}

static ulong slot_list(unsigned char present, ulong *list, ulong *count)
{
    ulong value;
    return fault("slots", &value) ? value : real->call[LIST](present, list, count);
}

static ulong get_token_info(ulong slot, token_info *info)
{
    ulong value, result;
    if (fault("token", &value))
        return value;
    result = real->call[TOKEN_INFO](slot, info);
    if (result == 0 && fault("flags", &value))
        info->flags |= value;
    if (result == 0 && fault("noflags", &value))
        info->flags &= ~value;
    return result;
}

static ulong login(ulong session, ulong user, unsigned char *pin, ulong size)
{
    char path[4096];
    ulong value;
    FILE *log;
    snprintf(path, sizeof path, "%s.log", getenv("FAULTS"));
    if ((log = fopen(path, "a"))) {
        fprintf(log, "login %lu %s\n", user, pin ? "pin" : "pad");
        fclose(log);
    }
    if (fault(user == 2 ? "context" : "login", &value))
        return value;
    if (!pin) { /* a key pad: the user types the PIN that the test knows */
        const char *typed = getenv("FAULTS_PIN");
        return real->call[LOGIN](session, user, typed, (ulong)strlen(typed));
    }
    return real->call[LOGIN](session, user, pin, size);
}

static ulong get_attribute(ulong session, ulong object, attribute *list, ulong count)
{
    ulong value, at, result = real->call[GET_ATTRIBUTE](session, object, list, count);
    if (result != 0 || !fault("rawpoint", &value))
        return result;
    for (at = 0; at < count; at++) {
        unsigned char *data = list[at].value;
        if (list[at].type == 0x181 && data && data[0] == 4 && data[1] == list[at].size - 2) {
            list[at].size -= 2;
            memmove(data, data + 2, list[at].size);
        }
    }
    return result;
}

static ulong find_init(ulong session, attribute *list, ulong count)
{
    static unsigned char nothing[] = "no object has this label";
    attribute none = {0x3, nothing, sizeof nothing};
    ulong value, at;
    if (fault("nolist", &value))
        for (at = 0; at < count; at++)
            if (list[at].type == 0 && *(ulong *)list[at].value == value)
                return real->call[FIND_INIT](session, &none, 1UL);
    return real->call[FIND_INIT](session, list, count);
}

static ulong sign(ulong session, unsigned char *data, ulong size, unsigned char *out, ulong *length)
{
    ulong value, result;
    if (fault("sign", &value))
        return value;
    result = real->call[SIGN](session, data, size, out, length);
    if (result == 0 && out && fault("flip", &value))
        out[*length / 2] ^= 1;
    if (result == 0 && out && fault("short", &value))
        *length -= 1;
    return result;
}

ulong C_GetFunctionList(functions **list)
{
    if (!real) {
        void *module = dlopen(getenv("FAULTS_MODULE"), RTLD_NOW);
        ulong (*get)(functions **) = module ? dlsym(module, "C_GetFunctionList") : NULL;
        if (!get || get(&real))
            return 5; /* CKR_GENERAL_ERROR */
        ours = *real;
        ours.call[LIST] = (ulong (*)())slot_list;
        ours.call[TOKEN_INFO] = get_token_info;
        ours.call[LOGIN] = login;
        ours.call[GET_ATTRIBUTE] = get_attribute;
        ours.call[FIND_INIT] = find_init;
        ours.call[SIGN] = sign;
    }
    *list = &ours;
    return 0;
}
