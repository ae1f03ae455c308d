/*
 * The operator's monitor: commands over the console.
 *
 * A command is a row of a table: its name, its arguments, one line of help, and the function.
 * Guests are named by their number ("d1" or "1") or by the name that the configuration gave them.
 */
#ifndef HYP_MONITOR_H
#define HYP_MONITOR_H

#include "hyp/types.h"

struct vm;

#define MONITOR_LINE_MAX 128
#define MONITOR_WORDS_MAX 8

/* words[0] is the command's name, as it was typed; words[count] is NULL. */
struct monitor_command {
	const char *name;
	const char *arguments;
	const char *help;
	u32 words_min, words_max; /* the name included */
	void (*run)(u32 count, char **words);
};

/* Prints the prompt: the keyboard came to the monitor. */
void monitor_enter(void);

/* One key typed while the monitor has the focus. A whole line runs a command. */
void monitor_key(u8 key);

/* Runs one command line, which it cuts into words. */
void monitor_run(char *line);

/* The guest that a word names, or NULL. */
struct vm *monitor_vm(const char *word);

/* The same, and a line that says which guests there are when it is none. */
struct vm *monitor_vm_or_say(const char *word);

/*
 * A number: decimal, 0x hexadecimal, with K, M or G behind it. False when it is none or does not
 * fit into 64 bits.
 */
bool monitor_number(const char *word, u64 *value);

/* ---- The commands, by file ------------------------------------------------------------------ */

/* monitor_guest.c */
void monitor_pause(u32 count, char **words);
void monitor_unpause(u32 count, char **words);
void monitor_destroy(u32 count, char **words);
void monitor_balloon(u32 count, char **words);
void monitor_console(u32 count, char **words);
void monitor_log(u32 count, char **words);
void monitor_quit(u32 count, char **words);

/* monitor_stat.c */
void monitor_list(u32 count, char **words);
void monitor_stat(u32 count, char **words);
void monitor_exits(u32 count, char **words);

/* monitor_swap.c */
void monitor_swap(u32 count, char **words);
void monitor_wss(u32 count, char **words);
void monitor_access(u32 count, char **words);
void monitor_mem_max(u32 count, char **words);
void monitor_reclaim(u32 count, char **words);
void monitor_ksm(u32 count, char **words);

/* monitor_dump.c */
void monitor_dump(u32 count, char **words);

#endif
