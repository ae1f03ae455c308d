/*
 * The symbol table of the first link: empty, and weak, so that the second link's replaces it. A
 * file of its own, since a compiler that saw these values beside their use would believe them.
 */
#include "hyp/symbol.h"

__attribute__((weak)) const struct symbol symbols[1] = {{0, 0}};
__attribute__((weak)) const u32 symbol_count = 0;
__attribute__((weak)) const char symbol_names[1] = "";
