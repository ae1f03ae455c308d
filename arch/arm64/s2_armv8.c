#include "s2_armv8.h"

#include "hyp/s2_cursor.h"

#define VALID BIT(0)
#define TYPE BIT(1)
#define MEMATTR BITS(5, 2)
#define READ_WRITE BITS(7, 6)
#define WRITE BIT(7)
#define SH BITS(9, 8)
#define ACCESSED BIT(10)
#define FNXS BIT(11)
#define ADDRESS BITS(47, 12)
#define ZERO BITS(50, 48)
#define DBM BIT(51)
#define CONTIGUOUS BIT(52)
#define XN BITS(54, 53)
#define SOFTWARE BITS(58, 55)
#define IGNORED BITS(63, 59)

#define LPA2_HIGH S2_ARMV8_LPA2_HIGH
#define LPA_HIGH BITS(15, 12)

#define DIRTY BIT(55)
#define COW BIT(56)
#define TABLE_MARK BIT(57)

static_assert(VALID + TYPE + MEMATTR + READ_WRITE + SH + ACCESSED + FNXS + ADDRESS + ZERO + DBM +
			      CONTIGUOUS + XN + SOFTWARE + IGNORED ==
		      ~0ull,
	      "the drawing has each bit once");
static_assert((DIRTY | COW | TABLE_MARK | SOFTWARE) == SOFTWARE, "marks are software's");
static_assert(S2_READ == 1 && S2_WRITE == 2 && S2_EXEC_KERNEL == 4 && S2_EXEC_USER == 8,
	      "read and write are S2AP as they are, execute rights an index of xn_of");

/* XN by what may be executed: nothing, at EL1, at EL0, at both. */
static const u8 xn_of[4] = {2, 3, 1, 0};
static const u8 exec_of_xn[4] = {3, 2, 0, 1};

/*
 * MemAttr (D8.6.5): outer and inner alike; or Device-nGnRE. The less cacheable of stage 1 and this
 * is what the access gets.
 *
 * With FEAT_S2FWB (D8.6.6), where HCR_EL2.FWB is set, its bit 3 is 0. 7 takes stage 1's type as it
 * is: write-back, unless the guest says less, and before it turns its MMU on it does. 6 is
 * write-back even where stage 1 says device, so what the hypervisor and a guest's early boot see is
 * always the same; RAM should be S2_FORCED. There is no write-through.
 */
#define MEMATTR_NOT_FWB BIT(5)

static const u8 memory_codes[S2_MEMORY_TYPES] = {
	[S2_NORMAL] = 0xf,	  [S2_UNCACHED] = 5, [S2_DEVICE] = 1,
	[S2_WRITE_THROUGH] = 0xa, [S2_FORCED] = 6,
};
static const u8 memory_of_code[16] = {
	[1] = S2_DEVICE, [5] = S2_UNCACHED,	   [6] = S2_FORCED,
	[7] = S2_NORMAL, [0xa] = S2_WRITE_THROUGH, [0xf] = S2_NORMAL,
};

static u64 encode(struct s2_attr attr, unused bool large)
{
	return field_set(attr.perm, READ_WRITE) | field_set(xn_of[(attr.perm >> 2) & 3], XN) |
	       field_set(memory_codes[attr.memory], MEMATTR) | ACCESSED;
}

static u64 encode_fwb(struct s2_attr attr, bool large)
{
	return encode(attr, large) & ~MEMATTR_NOT_FWB;
}

static struct s2_attr decode(u64 entry, unused bool large)
{
	return (struct s2_attr){
		.perm = field_get(entry, READ_WRITE) | exec_of_xn[field_get(entry, XN)] << 2,
		.memory = memory_of_code[field_get(entry, MEMATTR)],
	};
}

/* Execute rights for both or none, with any of read and write; and with FEAT_XNX whatever can be
 * said. */
#define PERMS                                                                                      \
	(BIT(0) | BIT(S2_READ) | BIT(S2_WRITE) | BIT(S2_RW) | BIT(S2_EXEC) | BIT(S2_RX) |          \
	 BIT(S2_WRITE | S2_EXEC) | BIT(S2_RWX))
#define PERMS_XNX 0xffff

#define MEMORIES (BIT(S2_NORMAL) | BIT(S2_UNCACHED) | BIT(S2_DEVICE))

/* Attributes, by features of the CPU. */
#define PLAIN .perms = PERMS, .memories = MEMORIES | BIT(S2_WRITE_THROUGH), .encode = encode
#define XNX .perms = PERMS_XNX, .memories = MEMORIES | BIT(S2_WRITE_THROUGH), .encode = encode
#define FWB                                                                                        \
	.perms = PERMS_XNX, .memories = MEMORIES | BIT(S2_FORCED), .ram = S2_FORCED,               \
	.encode = encode_fwb

/* Leaves have a shareability of their own, or the space's, which VTCR_EL2 says. Of memory that is
 * not cached it means nothing (D8.6.2). */
#define SH_INNER 3
#define SH_OWN .page = VALID | TYPE | SH_INNER * BIT(8), .large = VALID | SH_INNER * BIT(8)
#define SH_OF_SPACE .page = VALID | TYPE, .large = VALID

/*
 * Shapes, by granule and size of addresses. Hardware could begin at the level of pages with 16 and
 * 64 KiB; then a space is so small that we would rather not. The fifth level of 4 KiB is for spaces
 * whose root is one table: sixteen side by side, one level below, cover 52 bits as well.
 */
#define SHAPE_4K                                                                                   \
	S2_GEOMETRY(12, 9), .plain = true, .levels = 4, .leaf_levels = BITS(2, 0),                 \
			    .contiguous_log2 = {4, 4, 4}, .address = BITS(47, 12), SH_OWN
#define SHAPE_16K                                                                                  \
	S2_GEOMETRY(14, 11), .levels = 3, .leaf_levels = BITS(1, 0), .contiguous_log2 = {7, 5},    \
			     .address = BITS(47, 14), SH_OWN
#define SHAPE_64K                                                                                  \
	S2_GEOMETRY(16, 13), .levels = 3, .leaf_levels = BITS(1, 0), .contiguous_log2 = {5, 5},    \
			     .address = BITS(47, 16), SH_OWN
#define SHAPE_4K_LPA2                                                                              \
	S2_GEOMETRY(12, 9), .levels = 5, .leaf_levels = BITS(3, 0), .contiguous_log2 = {4, 4, 4},  \
			    .address = BITS(49, 12), .address_high = LPA2_HIGH,                    \
			    .address_high_shift = 50 - 8, SH_OF_SPACE
#define SHAPE_16K_LPA2                                                                             \
	S2_GEOMETRY(14, 11), .levels = 4, .leaf_levels = BITS(2, 0), .contiguous_log2 = {7, 5},    \
			     .address = BITS(49, 14), .address_high = LPA2_HIGH,                   \
			     .address_high_shift = 50 - 8, SH_OF_SPACE
#define SHAPE_64K_LPA                                                                              \
	S2_GEOMETRY(16, 13), .levels = 3, .leaf_levels = BITS(2, 0), .contiguous_log2 = {5, 5},    \
			     .address = BITS(47, 16), .address_high = LPA_HIGH,                    \
			     .address_high_shift = 48 - 12, SH_OWN

/* DBM is the mark `log` also on CPUs that take no notice of it: they ignore it then. */
#define FORMAT(symbol, text, shape, attributes)                                                    \
	const struct s2_format symbol = {                                                          \
		.name = text,                                                                      \
		shape,                                                                             \
		attributes,                                                                        \
		.root_level_min = 1,                                                               \
		.root_tables_max = 16,                                                             \
		.present = VALID,                                                                  \
		.table = VALID | TYPE,                                                             \
		.large_mask = TYPE,                                                                \
		.large_value = 0,                                                                  \
		.perm_mask = READ_WRITE | XN,                                                      \
		.write = WRITE,                                                                    \
		.accessed = ACCESSED,                                                              \
		.dirty = DIRTY,                                                                    \
		.log = DBM,                                                                        \
		.log_is_hardware = true,                                                           \
		.cow = COW,                                                                        \
		.accessed_table_mark = TABLE_MARK,                                                 \
		.contiguous = CONTIGUOUS,                                                          \
		.decode = decode,                                                                  \
	}

FORMAT(s2_armv8_4k, "ARMv8 4K", SHAPE_4K, PLAIN);
FORMAT(s2_armv8_4k_xnx, "ARMv8 4K XNX", SHAPE_4K, XNX);
FORMAT(s2_armv8_4k_fwb, "ARMv8 4K FWB", SHAPE_4K, FWB);
FORMAT(s2_armv8_16k, "ARMv8 16K", SHAPE_16K, PLAIN);
FORMAT(s2_armv8_16k_xnx, "ARMv8 16K XNX", SHAPE_16K, XNX);
FORMAT(s2_armv8_16k_fwb, "ARMv8 16K FWB", SHAPE_16K, FWB);
FORMAT(s2_armv8_64k, "ARMv8 64K", SHAPE_64K, PLAIN);
FORMAT(s2_armv8_64k_xnx, "ARMv8 64K XNX", SHAPE_64K, XNX);
FORMAT(s2_armv8_64k_fwb, "ARMv8 64K FWB", SHAPE_64K, FWB);
FORMAT(s2_armv8_4k_lpa2, "ARMv8 4K LPA2", SHAPE_4K_LPA2, XNX);
FORMAT(s2_armv8_4k_lpa2_fwb, "ARMv8 4K LPA2 FWB", SHAPE_4K_LPA2, FWB);
FORMAT(s2_armv8_16k_lpa2, "ARMv8 16K LPA2", SHAPE_16K_LPA2, XNX);
FORMAT(s2_armv8_16k_lpa2_fwb, "ARMv8 16K LPA2 FWB", SHAPE_16K_LPA2, FWB);
FORMAT(s2_armv8_64k_lpa, "ARMv8 64K LPA", SHAPE_64K_LPA, XNX);
FORMAT(s2_armv8_64k_lpa_fwb, "ARMv8 64K LPA FWB", SHAPE_64K_LPA, FWB);
