/* Offsets in struct arch_vcpu, which is the first of struct vcpu; vcpu.c asserts them. */
#ifndef ENTER_H
#define ENTER_H

#define VCPU_RAX 0
#define VCPU_RCX 8
#define VCPU_RDX 16
#define VCPU_RBX 24
#define VCPU_RBP 40
#define VCPU_RSI 48
#define VCPU_RDI 56
#define VCPU_R8 64
#define VCPU_R9 72
#define VCPU_R10 80
#define VCPU_R11 88
#define VCPU_R12 96
#define VCPU_R13 104
#define VCPU_R14 112
#define VCPU_R15 120
#define VCPU_HOST_RSP 128
#define VCPU_LAUNCHED 136

#define FIELD_HOST_RSP 0x6c14

#endif
