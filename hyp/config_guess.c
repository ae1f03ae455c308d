/* "did you mean": which of the known words is nearest to what was written, if any is near enough.
 */
#include "hyp/config_guess.h"

#include "hyp/log.h"

#include <string.h>

#define GUESS_LENGTH_MAX 31

static u8 least(u8 a, u8 b)
{
	return a < b ? a : b;
}

/*
 * Edits between two words: insert, delete, replace, or swap neighbours (Damerau and Levenshtein,
 * each place edited once). Rows are prefixes of `a`: before_last, last, now.
 */
static u32 edit_distance(const char *a, const char *b)
{
	u8 rows[3][GUESS_LENGTH_MAX + 1];
	u8 *before_last = rows[0], *last = rows[1], *now = rows[2];
	u32 length = (u32)strlen(b);

	for (u32 j = 0; j <= length; j++) {
		last[j] = (u8)j;
	}
	for (u32 i = 1; a[i - 1] != '\0'; i++) {
		u8 *spare = before_last;

		now[0] = (u8)i;
		for (u32 j = 1; j <= length; j++) {
			u8 replaced = (u8)(last[j - 1] + (a[i - 1] != b[j - 1]));

			now[j] = least(replaced, (u8)(least(last[j], now[j - 1]) + 1));
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
				now[j] = least(now[j], (u8)(before_last[j - 2] + 1));
			}
		}
		before_last = last;
		last = now;
		now = spare;
	}
	return last[length];
}

static void consider(struct config_guess *guess, const char *part, const char *word)
{
	u32 length = (u32)strlen(guess->written);
	u32 distance;

	if (length > GUESS_LENGTH_MAX || strlen(part) > GUESS_LENGTH_MAX) {
		return;
	}
	distance = edit_distance(guess->written, part);
	/* Half a word of edits is another word. */
	if (distance * 2 < length && (guess->best == NULL || distance < guess->distance)) {
		guess->best = word;
		guess->distance = distance;
	}
}

void config_guess_consider(struct config_guess *guess, const char *word)
{
	u32 i = 0;

	consider(guess, word, word);
	/* "weight" means "lamina,weight". */
	while (word[i] != '\0' && word[i] != ',') {
		i++;
	}
	if (word[i] == ',') {
		consider(guess, word + i + 1, word);
	}
}

void config_guess_text(const struct config_guess *guess, char *text, size_t size)
{
	if (guess->best == NULL) {
		text_format(text, size, "%s", "");
	} else {
		text_format(text, size, "did you mean \"%s\"?", guess->best);
	}
}
