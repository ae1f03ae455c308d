/* The inline part of s2 that every entry runs. The C files are compiled for thread sanitizer, so
 * its accesses are steps; the C++ files are not, and theirs would be none. */
#include "hyp/s2.h"

void steps_entering(struct s2 *s2);
void steps_left(struct s2 *s2);

void steps_entering(struct s2 *s2)
{
	s2_entering(s2);
}

void steps_left(struct s2 *s2)
{
	s2_left(s2);
}
