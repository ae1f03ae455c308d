/*
 * An instruction is prefixes, opcode, ModRM and what ModRM asks for (SIB, displacement), immediate.
 * What the opcodes say is a table; the rest are the rules of the format, which decide lengths.
 */
#include "vdecode.h"

#define PREFIX_OPERAND 0x66
#define PREFIX_ADDRESS 0x67
#define PREFIX_LOCK 0xf0
#define PREFIX_REPNE 0xf2
#define PREFIX_REP 0xf3
#define PREFIX_REX 0x40 /* to 0x4f */
#define ESCAPE 0x0f	/* an opcode of two bytes */

#define REX_R BIT(2) /* bit 3 of ModRM.reg */
#define REX_W BIT(3) /* operands of 8 bytes */

#define MODRM_MOD BITS(7, 6)
#define MODRM_REG BITS(5, 3)
#define MODRM_RM BITS(2, 0)
#define SIB_BASE BITS(2, 0)
#define MOD_DISP8 1
#define MOD_DISP 2 /* as wide as addresses, 4 bytes at most */
#define MOD_REGISTER 3
#define RM_SIB 4	/* in 32-bit forms */
#define RM_DISP 5	/* in 32-bit forms, where mod is 0: only that (or RIP and that) */
#define RM_DISP_SHORT 6 /* the same in 16-bit forms */

/* ---- Opcodes ------------------------------------------------------------------------------- */

#define WRITE BIT(0)
#define IMMEDIATE BIT(1) /* ModRM.reg must be 0: the others of the group are no moves */
#define OFFSET BIT(2)	 /* the address itself follows, no ModRM; the register is AL to RAX */
#define ZERO BIT(3)	 /* the register is as wide as operands are, whatever memory is */
#define SIGN BIT(4)	 /* the same */
#define LONG_MODE BIT(5) /* in 64-bit code only: elsewhere the opcode is another's */
#define WHOLE 8		 /* as wide as operands are */

static const struct form {
	u16 opcode;
	u8 size; /* bytes of memory, unless operands are narrower */
	u8 flags;
} forms[] = {
	{0x8b, WHOLE, 0},
	{0x89, WHOLE, WRITE},
	{0x8a, 1, 0},
	{0x88, 1, WRITE},
	{0xc7, WHOLE, WRITE | IMMEDIATE},
	{0xc6, 1, WRITE | IMMEDIATE},
	{0x0fb6, 1, ZERO},
	{0x0fb7, 2, ZERO},
	{0x0fbe, 1, SIGN},
	{0x0fbf, 2, SIGN},
	{0x63, 4, SIGN | LONG_MODE}, /* of 2 bytes with 66; so Intel, while AMD reads 4 */
	{0xa0, 1, OFFSET},
	{0xa1, WHOLE, OFFSET},
	{0xa2, 1, WRITE | OFFSET},
	{0xa3, WHOLE, WRITE | OFFSET},
};

static const struct form *find_form(u32 opcode, unsigned bits)
{
	for (u32 i = 0; i < ARRAY_COUNT(forms); i++) {
		if (forms[i].opcode == opcode) {
			return bits == 64 || !(forms[i].flags & LONG_MODE) ? &forms[i] : NULL;
		}
	}
	return NULL;
}

/* ---- Bytes --------------------------------------------------------------------------------- */

/* Bytes behind the end read as 0, and are remembered: so only the end of decoding has to ask. */
struct cursor {
	const u8 *bytes;
	u32 at, have;
	bool beyond;
};

static u8 peek(const struct cursor *c)
{
	return c->at < c->have ? c->bytes[c->at] : 0;
}

static u8 next(struct cursor *c)
{
	u8 byte = peek(c);

	if (c->at == c->have) {
		c->beyond = true;
	} else {
		c->at++;
	}
	return byte;
}

static void skip(struct cursor *c, u32 count)
{
	while (count-- > 0) {
		next(c);
	}
}

/* A signed number of 1, 2 or 4 bytes, the lowest first. */
static u64 next_signed(struct cursor *c, unsigned size)
{
	unsigned unused_bits = 64 - 8 * size;
	u64 value = 0;

	for (unsigned i = 0; i < size; i++) {
		value |= (u64)next(c) << (8 * i);
	}
	return (u64)((s64)(value << unused_bits) >> unused_bits);
}

/* ---- Prefixes ------------------------------------------------------------------------------ */

struct prefixes {
	bool operand, address, lock;
	u8 rex; /* 0: none */
};

/*
 * Segments move the address only. REP and REPNE mean nothing to a move: before 88, 89, C6 and C7
 * they are hints for transactions, else hardware ignores them.
 */
static bool take_legacy(struct prefixes *p, u8 byte)
{
	switch (byte) {
	case PREFIX_OPERAND:
		p->operand = true;
		return true;
	case PREFIX_ADDRESS:
		p->address = true;
		return true;
	case PREFIX_LOCK:
		p->lock = true;
		return true;
	case 0x26: /* ES */
	case 0x2e: /* CS */
	case 0x36: /* SS */
	case 0x3e: /* DS */
	case 0x64: /* FS */
	case 0x65: /* GS */
	case PREFIX_REPNE:
	case PREFIX_REP:
		return true;
	}
	return false;
}

/* In any order and number. REX counts only directly before the opcode (2.2.1). */
static struct prefixes next_prefixes(struct cursor *c, unsigned bits)
{
	struct prefixes p = {.rex = 0};

	for (;;) {
		u8 byte = peek(c);

		if (take_legacy(&p, byte)) {
			p.rex = 0;
		} else if (bits == 64 && (byte & 0xf0) == PREFIX_REX) {
			p.rex = byte;
		} else {
			return p;
		}
		next(c);
	}
}

/* Bytes; volume 1, 3.6.1. */
static unsigned operand_size(const struct prefixes *p, unsigned bits)
{
	if (p->rex & REX_W) {
		return 8;
	}
	return (bits == 16) != p->operand ? 2 : 4;
}

static unsigned address_size(const struct prefixes *p, unsigned bits)
{
	if (bits == 64) {
		return p->address ? 4 : 8;
	}
	return (bits == 16) != p->address ? 2 : 4;
}

/* ---- Addresses: only how long they are ----------------------------------------------------- */

/* Table 2-1. */
static void skip_address16(struct cursor *c, u64 mod, u64 rm)
{
	if (mod == MOD_DISP8) {
		skip(c, 1);
	} else if (mod == MOD_DISP || rm == RM_DISP_SHORT) {
		skip(c, 2);
	}
}

/* Tables 2-2 and 2-3; REX does not change which registers stand for a displacement (2.2.1.2). */
static void skip_address32(struct cursor *c, u64 mod, u64 rm)
{
	u64 base = rm == RM_SIB ? field_get(next(c), SIB_BASE) : rm;

	if (mod == MOD_DISP8) {
		skip(c, 1);
	} else if (mod == MOD_DISP || base == RM_DISP) {
		skip(c, 4);
	}
}

/* ---- The instruction ----------------------------------------------------------------------- */

/* Without REX, the byte registers 4 to 7 are the second bytes of 0 to 3; with one SPL to DIL. */
static void set_register(struct vdecode *d, const struct prefixes *p, u8 modrm)
{
	u8 reg = (u8)field_get(modrm, MODRM_REG) | (p->rex & REX_R ? 8 : 0);

	d->high_byte = d->reg_size == 1 && p->rex == 0 && reg >= 4;
	d->reg = d->high_byte ? reg - 4 : reg;
}

/* False: both operands are registers, or the group's member is no move. */
static bool next_modrm(struct cursor *c, const struct form *f, const struct prefixes *p,
		       unsigned address, struct vdecode *d)
{
	u8 modrm = next(c);
	u64 mod = field_get(modrm, MODRM_MOD), rm = field_get(modrm, MODRM_RM);

	if (mod == MOD_REGISTER || ((f->flags & IMMEDIATE) && field_get(modrm, MODRM_REG) != 0)) {
		return false;
	}
	if (!(f->flags & IMMEDIATE)) {
		set_register(d, p, modrm);
	}
	if (address == 2) {
		skip_address16(c, mod, rm);
	} else {
		skip_address32(c, mod, rm);
	}
	return true;
}

/* As wide as what is written, but never more than 4 bytes, which are extended then. */
static void next_immediate(struct cursor *c, struct vdecode *d)
{
	u64 value = next_signed(c, (unsigned)min_u64(d->size, 4));

	d->has_immediate = true;
	d->immediate = value & BITS(8 * d->size - 1, 0);
}

static u32 next_opcode(struct cursor *c)
{
	u8 byte = next(c);

	return byte == ESCAPE ? (u32)ESCAPE << 8 | next(c) : byte;
}

bool vdecode(const u8 *bytes, u32 have, unsigned bits, struct vdecode *d)
{
	struct cursor c = {.bytes = bytes, .have = (u32)min_u64(have, VDECODE_BYTES_MAX)};
	struct prefixes p = next_prefixes(&c, bits);
	const struct form *f = find_form(next_opcode(&c), bits);
	unsigned operand = operand_size(&p, bits), address = address_size(&p, bits);

	if (f == NULL || p.lock) { /* a move with LOCK is refused by hardware */
		return false;
	}
	*d = (struct vdecode){
		.write = f->flags & WRITE,
		.size = (u8)min_u64(f->size, operand),
		.sign_extend = f->flags & SIGN,
	};
	d->reg_size = f->flags & (ZERO | SIGN) ? (u8)operand : d->size;
	if (f->flags & OFFSET) {
		skip(&c, address);
	} else if (!next_modrm(&c, f, &p, address, d)) {
		return false;
	}
	if (f->flags & IMMEDIATE) {
		next_immediate(&c, d);
	}
	d->length = (u8)c.at;
	return !c.beyond;
}
