/*
 * Repeats what is typed to it, line by line, until a line is "end". Control characters are shown as
 * ^A to ^_.
 */
#include "lib.h"

static void read_line(char *line, size_t size)
{
	size_t n = 0;

	for (;;) {
		char key = machine_read_key();

		if (key == '\r' || n + 3 > size) {
			break;
		}
		if (key < ' ') {
			line[n++] = '^';
			key |= '@';
		}
		line[n++] = key;
	}
	line[n] = 0;
}

void guest_main(void)
{
	static char line[128];

	print("type");
	do {
		read_line(line, sizeof(line));
		print("typed: %s", line);
	} while (strcmp(line, "end") != 0);
	check("typed_to_the_end", true, " ");
}
