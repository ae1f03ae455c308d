/* FP and SIMD registers of a guest; Lamina itself is compiled without them. */
#ifndef FP_H
#define FP_H

/* 32 Q registers, FPCR, FPSR, in this order, aligned to 16. */
void fp_load(const void *state);
void fp_save(void *state);

#endif
