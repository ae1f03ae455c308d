/* Instructions as an assembler made them, and all that can be wrong with them. */
#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

extern "C" {
#include "vdecode.h"
}

namespace
{

using Bytes = std::vector<u8>;

/* In memory of exactly that size: a sanitizer sees what is read behind its end. */
bool decode(unsigned bits, const Bytes &bytes, struct vdecode *d)
{
	std::unique_ptr<u8[]> exact(new u8[bytes.size()]);

	std::memset(d, 0xa5, sizeof(*d));
	if (!bytes.empty()) {
		std::memcpy(exact.get(), bytes.data(), bytes.size());
	}
	return vdecode(exact.get(), (u32)bytes.size(), bits, d);
}

/* To = from: m2 is two bytes of memory, r3.4 four bytes of register 3, h1 is CH. */
std::string describe(const struct vdecode &d)
{
	char memory[32], operand[32];
	const char *extension = d.write		       ? ""
				: d.sign_extend	       ? "sign "
				: d.reg_size != d.size ? "zero "
						       : "";

	std::snprintf(memory, sizeof(memory), "%sm%u", extension, d.size);
	if (d.has_immediate) {
		std::snprintf(operand, sizeof(operand), "0x%llx", (unsigned long long)d.immediate);
	} else if (d.high_byte) {
		std::snprintf(operand, sizeof(operand), "h%u", d.reg);
	} else {
		std::snprintf(operand, sizeof(operand), "r%u.%u", d.reg, d.reg_size);
	}
	return d.write ? std::string(memory) + " = " + operand
		       : std::string(operand) + " = " + memory;
}

struct Case {
	unsigned bits;
	const char *name;
	Bytes bytes;
	const char *want;
};

/* What is behind it does not matter, and all of it has to be there. */
void expect_one(const Case &c)
{
	struct vdecode d;
	Bytes longer = c.bytes, shorter = c.bytes;

	ASSERT_TRUE(decode(c.bits, c.bytes, &d)) << c.name;
	EXPECT_EQ(describe(d), c.want) << c.name;
	EXPECT_EQ(d.length, c.bytes.size()) << c.name;
	longer.insert(longer.end(), 20, 0x66);
	ASSERT_TRUE(decode(c.bits, longer, &d)) << c.name;
	EXPECT_EQ(describe(d), c.want) << c.name;
	EXPECT_EQ(d.length, c.bytes.size()) << c.name;
	while (!shorter.empty()) {
		shorter.pop_back();
		EXPECT_FALSE(decode(c.bits, shorter, &d)) << c.name << ", " << shorter.size();
	}
}

void expect_all(const std::vector<Case> &cases)
{
	for (const Case &c : cases) {
		expect_one(c);
	}
}

void expect_none(const std::vector<Case> &cases)
{
	struct vdecode d;

	for (Case c : cases) {
		c.bytes.resize(15);
		EXPECT_FALSE(decode(c.bits, c.bytes, &d)) << c.name;
	}
}

/* ---- What is decoded ----------------------------------------------------------------------- */

TEST(Vdecode, every_move_of_64_bit_code)
{
	expect_all({
		{64, "mov eax, [rdi]", {0x8b, 0x07}, "r0.4 = m4"},
		{64, "mov rax, [rdi]", {0x48, 0x8b, 0x07}, "r0.8 = m8"},
		{64, "mov ax, [rdi]", {0x66, 0x8b, 0x07}, "r0.2 = m2"},
		{64, "mov al, [rdi]", {0x8a, 0x07}, "r0.1 = m1"},
		{64, "mov [rdi], ecx", {0x89, 0x0f}, "m4 = r1.4"},
		{64, "mov [rdi], rdx", {0x48, 0x89, 0x17}, "m8 = r2.8"},
		{64, "mov [rdi], bx", {0x66, 0x89, 0x1f}, "m2 = r3.2"},
		{64, "mov [rdi], bl", {0x88, 0x1f}, "m1 = r3.1"},
		{64, "mov esp, [rdi]", {0x8b, 0x27}, "r4.4 = m4"},
		{64, "mov [rdi], rbp", {0x48, 0x89, 0x2f}, "m8 = r5.8"},
		{64, "mov byte ptr [rdi], 0x80", {0xc6, 0x07, 0x80}, "m1 = 0x80"},
		{64, "mov word ptr [rdi], 0x8001", {0x66, 0xc7, 0x07, 0x01, 0x80}, "m2 = 0x8001"},
		{64,
		 "mov dword ptr [rdi], 0x80000001",
		 {0xc7, 0x07, 0x01, 0x00, 0x00, 0x80},
		 "m4 = 0x80000001"},
		{64,
		 "mov qword ptr [rdi], 0x7fffffff",
		 {0x48, 0xc7, 0x07, 0xff, 0xff, 0xff, 0x7f},
		 "m8 = 0x7fffffff"},
		{64,
		 "mov qword ptr [rdi], -2",
		 {0x48, 0xc7, 0x07, 0xfe, 0xff, 0xff, 0xff},
		 "m8 = 0xfffffffffffffffe"},
		{64, "movzx eax, byte ptr [rdi]", {0x0f, 0xb6, 0x07}, "r0.4 = zero m1"},
		{64, "movzx ax, byte ptr [rdi]", {0x66, 0x0f, 0xb6, 0x07}, "r0.2 = zero m1"},
		{64, "movzx rax, byte ptr [rdi]", {0x48, 0x0f, 0xb6, 0x07}, "r0.8 = zero m1"},
		{64, "movzx eax, word ptr [rdi]", {0x0f, 0xb7, 0x07}, "r0.4 = zero m2"},
		{64, "movzx rsi, word ptr [rdi]", {0x48, 0x0f, 0xb7, 0x37}, "r6.8 = zero m2"},
		{64, "movsx eax, byte ptr [rdi]", {0x0f, 0xbe, 0x07}, "r0.4 = sign m1"},
		{64, "movsx ax, byte ptr [rdi]", {0x66, 0x0f, 0xbe, 0x07}, "r0.2 = sign m1"},
		{64, "movsx rax, byte ptr [rdi]", {0x48, 0x0f, 0xbe, 0x07}, "r0.8 = sign m1"},
		{64, "movsx ebx, word ptr [rdi]", {0x0f, 0xbf, 0x1f}, "r3.4 = sign m2"},
		{64, "movsx rbx, word ptr [rdi]", {0x48, 0x0f, 0xbf, 0x1f}, "r3.8 = sign m2"},
		{64, "movsxd rax, dword ptr [rdi]", {0x48, 0x63, 0x07}, "r0.8 = sign m4"},
		{64, "movsxd eax, dword ptr [rdi]", {0x63, 0x07}, "r0.4 = sign m4"},
		{64, "movsxd ax, word ptr [rdi]", {0x66, 0x63, 0x07}, "r0.2 = sign m2"},
		{64, "movzx ax, word ptr [rdi]", {0x66, 0x0f, 0xb7, 0x07}, "r0.2 = m2"},
		{64, "movsx ax, word ptr [rdi]", {0x66, 0x0f, 0xbf, 0x07}, "r0.2 = sign m2"},
		{64,
		 "movabs al, [0xfee00020]",
		 {0xa0, 0x20, 0x00, 0xe0, 0xfe, 0x00, 0x00, 0x00, 0x00},
		 "r0.1 = m1"},
		{64,
		 "movabs eax, [0x1122334455667788]",
		 {0xa1, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11},
		 "r0.4 = m4"},
		{64,
		 "movabs rax, [0x1122334455667788]",
		 {0x48, 0xa1, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11},
		 "r0.8 = m8"},
		{64,
		 "movabs [0x1122334455667788], al",
		 {0xa2, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11},
		 "m1 = r0.1"},
		{64,
		 "movabs [0x1122334455667788], ax",
		 {0x66, 0xa3, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11},
		 "m2 = r0.2"},
		{64,
		 "movabs [0x1122334455667788], rax",
		 {0x48, 0xa3, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11},
		 "m8 = r0.8"},
		{64,
		 "addr32 mov eax, [0xfee00020]",
		 {0x67, 0xa1, 0x20, 0x00, 0xe0, 0xfe},
		 "r0.4 = m4"},
	});
}

TEST(Vdecode, registers_that_rex_names)
{
	expect_all({
		{64, "mov r8d, [rdi]", {0x44, 0x8b, 0x07}, "r8.4 = m4"},
		{64, "mov r15, [r14]", {0x4d, 0x8b, 0x3e}, "r15.8 = m8"},
		{64, "mov [r13], r12d", {0x45, 0x89, 0x65, 0x00}, "m4 = r12.4"},
		{64,
		 "mov [rdi + r9*8 + 0x10], r10w",
		 {0x66, 0x46, 0x89, 0x54, 0xcf, 0x10},
		 "m2 = r10.2"},
		{64, "mov r11b, [rdi]", {0x44, 0x8a, 0x1f}, "r11.1 = m1"},
		{64, "mov ah, [rdi]", {0x8a, 0x27}, "h0 = m1"},
		{64, "mov ch, [rdi]", {0x8a, 0x2f}, "h1 = m1"},
		{64, "mov [rdi], dh", {0x88, 0x37}, "m1 = h2"},
		{64, "mov [rdi], bh", {0x88, 0x3f}, "m1 = h3"},
		{64, "mov [rdi], spl", {0x40, 0x88, 0x27}, "m1 = r4.1"},
		{64, "mov [rdi], bpl", {0x40, 0x88, 0x2f}, "m1 = r5.1"},
		{64, "mov sil, [rdi]", {0x40, 0x8a, 0x37}, "r6.1 = m1"},
		{64, "mov dil, [r8]", {0x41, 0x8a, 0x38}, "r7.1 = m1"},
		{64, "movzx esp, byte ptr [rdi]", {0x0f, 0xb6, 0x27}, "r4.4 = zero m1"},
		{64,
		 "movzx r13d, byte ptr [r13]",
		 {0x45, 0x0f, 0xb6, 0x6d, 0x00},
		 "r13.4 = zero m1"},
		{64, "movsxd r9, dword ptr [r12]", {0x4d, 0x63, 0x0c, 0x24}, "r9.8 = sign m4"},
		{64, "mov byte ptr [r12], 7", {0x41, 0xc6, 0x04, 0x24, 0x07}, "m1 = 0x7"},
		{64, "mov byte ptr [rdi], 7 with REX.R", {0x44, 0xc6, 0x07, 0x07}, "m1 = 0x7"},
		{64,
		 "mov al, [abs] with REX.R",
		 {0x44, 0xa0, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11},
		 "r0.1 = m1"},
	});
}

TEST(Vdecode, every_form_of_address_of_64_bit_code)
{
	expect_all({
		{64, "mov eax, [rax]", {0x8b, 0x00}, "r0.4 = m4"},
		{64, "mov eax, [rsp]", {0x8b, 0x04, 0x24}, "r0.4 = m4"},
		{64, "mov eax, [rbp]", {0x8b, 0x45, 0x00}, "r0.4 = m4"},
		{64, "mov eax, [r12]", {0x41, 0x8b, 0x04, 0x24}, "r0.4 = m4"},
		{64, "mov eax, [r13]", {0x41, 0x8b, 0x45, 0x00}, "r0.4 = m4"},
		{64, "mov eax, [rip + 0x1234]", {0x8b, 0x05, 0x34, 0x12, 0x00, 0x00}, "r0.4 = m4"},
		{64, "mov eax, [rax + 0x10]", {0x8b, 0x40, 0x10}, "r0.4 = m4"},
		{64,
		 "mov eax, [rax + 0x12345678]",
		 {0x8b, 0x80, 0x78, 0x56, 0x34, 0x12},
		 "r0.4 = m4"},
		{64, "mov eax, [rax + rcx*4]", {0x8b, 0x04, 0x88}, "r0.4 = m4"},
		{64, "mov eax, [rax + rcx*4 + 0x10]", {0x8b, 0x44, 0x88, 0x10}, "r0.4 = m4"},
		{64,
		 "mov eax, [rax + rcx*4 + 0x1000]",
		 {0x8b, 0x84, 0x88, 0x00, 0x10, 0x00, 0x00},
		 "r0.4 = m4"},
		{64,
		 "mov eax, [rcx*4 + 0x1000]",
		 {0x8b, 0x04, 0x8d, 0x00, 0x10, 0x00, 0x00},
		 "r0.4 = m4"},
		{64, "mov eax, [rbp + rcx*2]", {0x8b, 0x44, 0x4d, 0x00}, "r0.4 = m4"},
		{64, "mov eax, [r13 + rcx*2]", {0x41, 0x8b, 0x44, 0x4d, 0x00}, "r0.4 = m4"},
		{64, "mov eax, [rsp + 8]", {0x8b, 0x44, 0x24, 0x08}, "r0.4 = m4"},
		{64,
		 "mov eax, [0x12345678]",
		 {0x8b, 0x04, 0x25, 0x78, 0x56, 0x34, 0x12},
		 "r0.4 = m4"},
		{64, "mov eax, [eax]", {0x67, 0x8b, 0x00}, "r0.4 = m4"},
		{64,
		 "mov eax, [eip + 0x1234]",
		 {0x67, 0x8b, 0x05, 0x34, 0x12, 0x00, 0x00},
		 "r0.4 = m4"},
		{64, "mov eax, [esp + 8]", {0x67, 0x8b, 0x44, 0x24, 0x08}, "r0.4 = m4"},
		{64,
		 "mov eax, [ebp + ecx*2 + 0x100]",
		 {0x67, 0x8b, 0x84, 0x4d, 0x00, 0x01, 0x00, 0x00},
		 "r0.4 = m4"},
		{64,
		 "mov dword ptr [rip + 0x1234], 0x55667788",
		 {0xc7, 0x05, 0x34, 0x12, 0x00, 0x00, 0x88, 0x77, 0x66, 0x55},
		 "m4 = 0x55667788"},
		{64,
		 "mov qword ptr gs:[r12 + r13*8 + 0x12345678], -1",
		 {0x65, 0x4b, 0xc7, 0x84, 0xec, 0x78, 0x56, 0x34, 0x12, 0xff, 0xff, 0xff, 0xff},
		 "m8 = 0xffffffffffffffff"},
	});
}

TEST(Vdecode, prefixes_in_any_order)
{
	expect_all({
		{64, "mov eax, fs:[rdi]", {0x64, 0x8b, 0x07}, "r0.4 = m4"},
		{64,
		 "mov eax, gs:[0x30]",
		 {0x65, 0x8b, 0x04, 0x25, 0x30, 0x00, 0x00, 0x00},
		 "r0.4 = m4"},
		{64,
		 "mov eax, [rdi] behind all segments",
		 {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x8b, 0x07},
		 "r0.4 = m4"},
		{64, "mov ax, [edi]", {0x67, 0x66, 0x8b, 0x07}, "r0.2 = m2"},
		{64, "mov ax, [edi]", {0x66, 0x67, 0x8b, 0x07}, "r0.2 = m2"},
		{64, "mov ax, [rdi]", {0x66, 0x66, 0x8b, 0x07}, "r0.2 = m2"},
		{64, "mov rax, [rdi]: REX.W is stronger", {0x66, 0x48, 0x8b, 0x07}, "r0.8 = m8"},
		{64, "mov ax, [rdi]: REX is not the last", {0x4c, 0x66, 0x8b, 0x07}, "r0.2 = m2"},
		{64,
		 "mov ah, [rdi]: a REX that is not the last leaves AH",
		 {0x40, 0x2e, 0x8a, 0x27},
		 "h0 = m1"},
		{64,
		 "mov eax, [rdi]: the second REX counts",
		 {0x4c, 0x40, 0x8b, 0x07},
		 "r0.4 = m4"},
		{64, "xrelease mov [rdi], eax", {0xf3, 0x89, 0x07}, "m4 = r0.4"},
		{64,
		 "xrelease mov dword ptr [rdi], 1",
		 {0xf3, 0xc7, 0x07, 0x01, 0x00, 0x00, 0x00},
		 "m4 = 0x1"},
		{64, "repne mov eax, [rdi]", {0xf2, 0x8b, 0x07}, "r0.4 = m4"},
		{64,
		 "15 bytes",
		 {0x65, 0x65, 0x65, 0x65, 0xc7, 0x84, 0x88, 0x78, 0x56, 0x34, 0x12, 0x44, 0x33,
		  0x22, 0x11},
		 "m4 = 0x11223344"},
	});
}

TEST(Vdecode, moves_of_32_bit_code)
{
	expect_all({
		{32, "mov eax, [edi]", {0x8b, 0x07}, "r0.4 = m4"},
		{32, "mov ax, [edi]", {0x66, 0x8b, 0x07}, "r0.2 = m2"},
		{32, "mov [edi], bh", {0x88, 0x3f}, "m1 = h3"},
		{32, "mov [edi], cl", {0x88, 0x0f}, "m1 = r1.1"},
		{32, "mov eax, [0xfee00020]", {0xa1, 0x20, 0x00, 0xe0, 0xfe}, "r0.4 = m4"},
		{32, "mov ax, [0xfee00020]", {0x66, 0xa1, 0x20, 0x00, 0xe0, 0xfe}, "r0.2 = m2"},
		{32, "mov [0xfee000b0], al", {0xa2, 0xb0, 0x00, 0xe0, 0xfe}, "m1 = r0.1"},
		{32, "mov [0xfee000b0], eax", {0xa3, 0xb0, 0x00, 0xe0, 0xfe}, "m4 = r0.4"},
		{32, "mov ecx, [0xfee00020]", {0x8b, 0x0d, 0x20, 0x00, 0xe0, 0xfe}, "r1.4 = m4"},
		{32,
		 "mov dword ptr [0xfee000b0], 0",
		 {0xc7, 0x05, 0xb0, 0x00, 0xe0, 0xfe, 0x00, 0x00, 0x00, 0x00},
		 "m4 = 0x0"},
		{32, "mov word ptr [ebx], 0xffff", {0x66, 0xc7, 0x03, 0xff, 0xff}, "m2 = 0xffff"},
		{32, "mov byte ptr [ebx + 8], 1", {0xc6, 0x43, 0x08, 0x01}, "m1 = 0x1"},
		{32,
		 "movzx eax, byte ptr [esi + ebx*4 + 0x1000]",
		 {0x0f, 0xb6, 0x84, 0x9e, 0x00, 0x10, 0x00, 0x00},
		 "r0.4 = zero m1"},
		{32,
		 "movsx edi, word ptr [esp + 4]",
		 {0x0f, 0xbf, 0x7c, 0x24, 0x04},
		 "r7.4 = sign m2"},
		{32,
		 "movsx cx, byte ptr fs:[ebp]",
		 {0x64, 0x66, 0x0f, 0xbe, 0x4d, 0x00},
		 "r1.2 = sign m1"},
		{32, "mov eax, [bx + si]", {0x67, 0x8b, 0x00}, "r0.4 = m4"},
		{32, "mov eax, [bp + 4]", {0x67, 0x8b, 0x46, 0x04}, "r0.4 = m4"},
		{32, "mov eax, [di + 0x1234]", {0x67, 0x8b, 0x85, 0x34, 0x12}, "r0.4 = m4"},
		{32, "mov edx, [0x1234]", {0x8b, 0x15, 0x34, 0x12, 0x00, 0x00}, "r2.4 = m4"},
		{32, "addr16 mov edx, [0x1234]", {0x67, 0x8b, 0x16, 0x34, 0x12}, "r2.4 = m4"},
		{32, "addr16 mov eax, [0x1234]", {0x67, 0xa1, 0x34, 0x12}, "r0.4 = m4"},
		{32,
		 "addr16 mov word ptr [bx + 8], 0x1234",
		 {0x66, 0x67, 0xc7, 0x47, 0x08, 0x34, 0x12},
		 "m2 = 0x1234"},
	});
}

TEST(Vdecode, moves_of_16_bit_code)
{
	expect_all({
		{16, "mov ax, [bx + si]", {0x8b, 0x00}, "r0.2 = m2"},
		{16, "mov eax, [bx + di]", {0x66, 0x8b, 0x01}, "r0.4 = m4"},
		{16, "mov [bp + si], dl", {0x88, 0x12}, "m1 = r2.1"},
		{16, "mov [bp + 0], dh", {0x88, 0x76, 0x00}, "m1 = h2"},
		{16, "mov ax, [0x1234]", {0xa1, 0x34, 0x12}, "r0.2 = m2"},
		{16, "mov al, es:[0x1234]", {0x26, 0xa0, 0x34, 0x12}, "r0.1 = m1"},
		{16, "mov [0x1234], eax", {0x66, 0xa3, 0x34, 0x12}, "m4 = r0.4"},
		{16, "mov cx, [0x1234]", {0x8b, 0x0e, 0x34, 0x12}, "r1.2 = m2"},
		{16, "mov word ptr [di], 0x1234", {0xc7, 0x05, 0x34, 0x12}, "m2 = 0x1234"},
		{16,
		 "mov dword ptr [di], 0x12345678",
		 {0x66, 0xc7, 0x05, 0x78, 0x56, 0x34, 0x12},
		 "m4 = 0x12345678"},
		{16, "mov byte ptr [bx + 0x7f], 0xff", {0xc6, 0x47, 0x7f, 0xff}, "m1 = 0xff"},
		{16,
		 "mov word ptr [bx + 0x1000], 5",
		 {0xc7, 0x87, 0x00, 0x10, 0x05, 0x00},
		 "m2 = 0x5"},
		{16, "movzx ax, byte ptr [si]", {0x0f, 0xb6, 0x04}, "r0.2 = zero m1"},
		{16, "movzx eax, byte ptr [si]", {0x66, 0x0f, 0xb6, 0x04}, "r0.4 = zero m1"},
		{16, "movsx eax, word ptr [si]", {0x66, 0x0f, 0xbf, 0x04}, "r0.4 = sign m2"},
		{16, "mov ax, [eax]", {0x67, 0x8b, 0x00}, "r0.2 = m2"},
		{16,
		 "mov eax, [ebp + ecx*4 + 0x12345678]",
		 {0x67, 0x66, 0x8b, 0x84, 0x8d, 0x78, 0x56, 0x34, 0x12},
		 "r0.4 = m4"},
		{16, "mov bx, [ebx + 4]", {0x67, 0x8b, 0x5b, 0x04}, "r3.2 = m2"},
		{16, "mov sp, [esp]", {0x67, 0x8b, 0x24, 0x24}, "r4.2 = m2"},
		{16, "movzx ax, word ptr [si]", {0x0f, 0xb7, 0x04}, "r0.2 = m2"},
		{16,
		 "addr32 mov eax, [0xfee00020]",
		 {0x66, 0x67, 0xa1, 0x20, 0x00, 0xe0, 0xfe},
		 "r0.4 = m4"},
		{16,
		 "addr32 mov dword ptr [0xfee000b0], 0",
		 {0x66, 0x67, 0xc7, 0x05, 0xb0, 0x00, 0xe0, 0xfe, 0x00, 0x00, 0x00, 0x00},
		 "m4 = 0x0"},
	});
}

/* ---- What is refused ----------------------------------------------------------------------- */

TEST(Vdecode, lock_is_refused)
{
	expect_none({
		{64, "lock mov [rdi], eax", {0xf0, 0x89, 0x07}, ""},
		{64, "lock mov eax, [rdi]", {0xf0, 0x8b, 0x07}, ""},
		{64, "lock before other prefixes", {0xf0, 0x66, 0x48, 0x89, 0x07}, ""},
		{32, "lock behind other prefixes", {0x66, 0xf0, 0xc7, 0x07, 0x01, 0x00}, ""},
	});
}

TEST(Vdecode, moves_between_registers_are_refused)
{
	expect_none({
		{64, "mov edi, eax", {0x89, 0xc7}, ""},
		{64, "mov al, bl", {0x8a, 0xc3}, ""},
		{64, "mov eax, 1", {0xc7, 0xc0, 0x01, 0x00, 0x00, 0x00}, ""},
		{64, "movzx eax, al", {0x0f, 0xb6, 0xc0}, ""},
		{64, "movsxd rax, eax", {0x48, 0x63, 0xc0}, ""},
		{16, "mov ax, bx", {0x89, 0xd8}, ""},
	});
}

TEST(Vdecode, other_members_of_the_group_of_immediates_are_refused)
{
	struct vdecode d;

	for (u8 opcode : {0xc6, 0xc7}) {
		for (u8 member = 1; member < 8; member++) {
			Bytes bytes = {opcode, (u8)(member << 3 | 7)};

			bytes.resize(15);
			EXPECT_FALSE(decode(64, bytes, &d)) << (u32)opcode << " /" << (u32)member;
		}
	}
}

TEST(Vdecode, instructions_of_other_kinds_are_refused)
{
	expect_none({
		{32, "arpl [edi], ax", {0x63, 0x07}, ""},
		{16, "arpl [bx], ax", {0x63, 0x07}, ""},
		{32, "dec eax; mov eax, [edi]", {0x48, 0x8b, 0x07}, ""},
		{64, "add [rdi], eax", {0x01, 0x07}, ""},
		{64, "xchg [rdi], eax", {0x87, 0x07}, ""},
		{64, "mov [rdi], ds", {0x8c, 0x1f}, ""},
		{64, "rep movsd", {0xf3, 0xa5}, ""},
		{64, "stosd", {0xab}, ""},
		{64, "push [rdi]", {0xff, 0x37}, ""},
		{64, "movbe eax, [rdi]", {0x0f, 0x38, 0xf0, 0x07}, ""},
		{64, "movnti [rdi], eax", {0x0f, 0xc3, 0x07}, ""},
		{64, "movaps xmm0, [rdi]", {0x0f, 0x28, 0x07}, ""},
		{64, "vmovups xmm0, [rdi]", {0xc5, 0xf8, 0x10, 0x07}, ""},
		{64, "popcnt eax, [rdi]", {0xf3, 0x0f, 0xb8, 0x07}, ""},
		{64, "bts [rdi], eax", {0x0f, 0xab, 0x07}, ""},
		{64, "nothing but prefixes", Bytes(15, 0x66), ""},
	});
}

TEST(Vdecode, nothing_is_no_instruction)
{
	struct vdecode d;

	EXPECT_FALSE(decode(64, {}, &d));
	EXPECT_FALSE(vdecode(nullptr, 0, 64, &d));
}

TEST(Vdecode, instructions_of_more_than_15_bytes_are_refused)
{
	struct vdecode d;

	for (u32 prefixes = 0; prefixes < 20; prefixes++) {
		Bytes bytes(prefixes, 0x2e);

		bytes.insert(bytes.end(), {0xc7, 0x07, 0x01, 0x02, 0x03, 0x04});
		EXPECT_EQ(decode(64, bytes, &d), prefixes + 6 <= 15) << prefixes;
	}
}

/* ---- All of them --------------------------------------------------------------------------- */

TEST(Vdecode, all_other_opcodes_are_refused)
{
	std::set<u32> known = {0x88, 0x89, 0x8a, 0x8b, 0xa0, 0xa1, 0xa2, 0xa3, 0xc6, 0xc7};
	std::set<u32> known_behind_0f = {0xb6, 0xb7, 0xbe, 0xbf};
	struct vdecode d;

	for (unsigned bits : {16u, 32u, 64u}) {
		for (u32 opcode = 0; opcode < 256; opcode++) {
			Bytes one = {(u8)opcode, 0x07}, two = {0x0f, (u8)opcode, 0x07};
			bool movsxd = opcode == 0x63 && bits == 64;

			one.resize(15);
			two.resize(15);
			EXPECT_EQ(decode(bits, one, &d), known.count(opcode) || movsxd)
				<< bits << " " << opcode;
			EXPECT_EQ(decode(bits, two, &d), known_behind_0f.count(opcode))
				<< bits << " 0f " << opcode;
		}
	}
}

/* How long ModRM, SIB and displacement are, as the manual's tables of addressing forms have it. */
u32 address_length(bool short_form, u32 modrm, u32 sib)
{
	u32 mod = modrm >> 6, rm = modrm & 7;

	if (short_form) {
		static const u32 lengths[4][8] = {{1, 1, 1, 1, 1, 1, 3, 1},
						  {2, 2, 2, 2, 2, 2, 2, 2},
						  {3, 3, 3, 3, 3, 3, 3, 3}};

		return lengths[mod][rm];
	}

	static const u32 lengths[4][8] = {
		{1, 1, 1, 1, 2, 5, 1, 1}, {2, 2, 2, 2, 3, 2, 2, 2}, {5, 5, 5, 5, 6, 5, 5, 5}};

	return lengths[mod][rm] + (mod == 0 && rm == 4 && (sib & 7) == 5 ? 4 : 0);
}

TEST(Vdecode, every_form_of_address_has_its_length)
{
	struct vdecode d;

	for (u32 form = 0; form < 6; form++) {
		unsigned bits = 16u << form / 2;
		bool other = form & 1;
		bool short_form = bits == 16 ? !other : bits == 32 && other;

		for (u32 at = 0; at < 0x10000; at++) {
			u32 modrm = at >> 8, sib = at & 0xff;
			Bytes bytes = {0x67, 0x8b, (u8)modrm, (u8)sib};

			if (!other) {
				bytes.erase(bytes.begin());
			}
			bytes.resize(15);

			bool decoded = decode(bits, bytes, &d);

			ASSERT_EQ(decoded, modrm < 0xc0) << bits << " " << at;
			if (decoded) {
				ASSERT_EQ(d.length,
					  1 + other + address_length(short_form, modrm, sib))
					<< bits << " " << at;
				ASSERT_EQ(d.reg, modrm >> 3 & 7);
			}
		}
	}
}

TEST(Vdecode, rex_does_not_change_the_length_of_an_address)
{
	struct vdecode d;

	for (u32 rex = 0x40; rex < 0x50; rex += 3) {
		for (u32 at = 0; at < 0xc000; at++) {
			u32 modrm = at >> 8, sib = at & 0xff;
			Bytes bytes = {(u8)rex, 0x89, (u8)modrm, (u8)sib};

			bytes.resize(15);
			ASSERT_TRUE(decode(64, bytes, &d));
			ASSERT_EQ(d.length, 2 + address_length(false, modrm, sib))
				<< rex << " " << at;
			ASSERT_EQ(d.reg, (modrm >> 3 & 7) + (rex & 4 ? 8 : 0));
			ASSERT_EQ(d.size, rex & 8 ? 8 : 4);
		}
	}
}

void expect_consistent(unsigned bits, const Bytes &bytes, const struct vdecode &d)
{
	Bytes exactly(bytes.begin(), bytes.begin() + d.length);
	struct vdecode again;

	EXPECT_TRUE(d.size == 1 || d.size == 2 || d.size == 4 || d.size == 8);
	EXPECT_TRUE(d.reg_size == 1 || d.reg_size == 2 || d.reg_size == 4 || d.reg_size == 8);
	EXPECT_GE(d.reg_size, d.size);
	EXPECT_TRUE(bits == 64 || (d.reg_size < 8 && d.reg < 8));
	EXPECT_LT(d.reg, d.high_byte ? 4 : 16);
	EXPECT_TRUE(!d.high_byte || d.reg_size == 1);
	EXPECT_TRUE(d.write || !d.has_immediate);
	EXPECT_TRUE(!d.write || (!d.sign_extend && d.reg_size == d.size));
	EXPECT_TRUE(decode(bits, exactly, &again));
	EXPECT_EQ(describe(again), describe(d));
	exactly.pop_back();
	EXPECT_FALSE(decode(bits, exactly, &again));
}

/* Half of the bytes are such as lead on: prefixes and opcodes. */
TEST(Vdecode, random_bytes_are_survived)
{
	static const u8 likely_bytes[] = {0x66, 0x67, 0x2e, 0x65, 0x40, 0x4f, 0x0f, 0xb6,
					  0xb7, 0xbe, 0xbf, 0x63, 0x88, 0x89, 0x8a, 0x8b,
					  0xa0, 0xa3, 0xc6, 0xc7, 0xf2, 0xf0, 0x05, 0x84};
	std::mt19937 random(1);
	u32 decoded = 0;

	for (u32 i = 0; i < 300000; i++) {
		Bytes bytes(random() % 18);
		unsigned bits = 16u << random() % 3;
		struct vdecode d;

		for (u8 &byte : bytes) {
			u32 r = random();

			byte = r & 0x100 ? (u8)r : likely_bytes[(r >> 9) % sizeof(likely_bytes)];
		}
		if (!decode(bits, bytes, &d)) {
			continue;
		}
		decoded++;
		ASSERT_GT(d.length, 0);
		ASSERT_LE(d.length, bytes.size());
		ASSERT_LE(d.length, VDECODE_BYTES_MAX);
		expect_consistent(bits, bytes, d);
	}
	EXPECT_GT(decoded, 20000u);
}

} // namespace
