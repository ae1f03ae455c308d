/* Between a stream (s2_save.c) and the tables (s2_image.c): one entry of an image, either way. */
#ifndef HYP_S2_IMAGE_H
#define HYP_S2_IMAGE_H

#include "hyp/s2_save.h"

/*
 * The entry at `at`, from there on; EMPTY and TRANSIT are not for an image. An entry that became
 * larger since its first part was looked at is told of by the parts that are left.
 */
struct s2_image_range s2_image_look(struct s2 *s2, u64 at);

/* The first entry of the range, which space and format allow, is put into the space. Takes over one
 * reference of a leaf's frames when OK. EXISTS, AGAIN, NOMEM, DENIED, INVALID. */
enum status s2_image_put(struct s2 *s2, const struct s2_image_range *range);

#endif
