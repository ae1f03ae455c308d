/*
 * Every byte of RAM: fresh memory is zero, in whatever order and size it is first touched; what is
 * written stays, and stays apart; and the image that was loaded is there to the last byte.
 *
 * RAM is dealt out in chunks of 1 MiB to eight ways of a first touch, so that all of them happen in
 * fresh memory and side by side inside one 2 MiB block. The image carries 2.5 MiB of a known
 * pattern (blob) so that it does not end with the first block.
 */
#include "lib.h"

#define CHUNK (1ul << 20)
#define BLOB_WORDS 655360ul
#define QEMU_STUB_SIZE 64 /* bare: QEMU's own first instructions, at the start of RAM */

/* Word n is n * 0x9e3779b1, made by the assembler. */
extern const u32 blob[];
__asm__(".section .data.blob, \"aw\"\n"
	".balign 8\n"
	".globl blob\n"
	"blob:\n"
	".set n, 0\n"
	".rept 655360\n"
	".long (n * 0x9e3779b1) & 0xffffffff\n"
	".set n, n + 1\n"
	".endr\n"
	".text\n");

static u64 dirty_at; /* first address that was not as it should be */

static u64 ram_end(void)
{
	return machine.ram_base + machine.ram_size;
}

static u64 image_first(void)
{
	return (u64)image_start;
}

static u64 image_last(void)
{
	return (u64)image_end;
}

/* The end of the loaded thing that holds `a`, or 0 when `a` is nobody's. */
static u64 loaded_until(u64 a)
{
	if (a >= image_first() && a < image_last()) {
		return image_last();
	}
	if (a >= machine.tables && a < machine.tables + machine.tables_size) {
		return machine.tables + machine.tables_size;
	}
	if (guest_is_bare() && a < machine.ram_base + QEMU_STUB_SIZE) {
		return machine.ram_base + QEMU_STUB_SIZE;
	}
	return 0;
}

static bool page_is_free(u64 page)
{
	for (u64 a = page; a < page + PAGE_SIZE; a += 8) {
		if (loaded_until(a)) {
			return false;
		}
	}
	return true;
}

/* ---- First touches: each touches all pages of a chunk, and counts what is not zero ---- */

typedef u64 (*touch_fn)(u64 page);

static u64 touch_word(u64 page)
{
	return read64(page);
}

static u64 touch_last_byte(u64 page)
{
	return read8(page + PAGE_SIZE - 1);
}

static u64 touch_pair(u64 page)
{
	u64 a, b;

	__asm__ volatile("ldp %0, %1, [%2, #16]" : "=r"(a), "=r"(b) : "r"(page) : "memory");
	return a | b;
}

/* Into the page before, if that is in RAM and free: one access, two pages. */
static u64 touch_across(u64 page)
{
	u64 a = page - 4;

	if (page == machine.ram_base || !page_is_free(page - PAGE_SIZE)) {
		a = page;
	}
	return read64(a);
}

static u64 touch_write(u64 page)
{
	write8(page + 77, 0);
	return read64(page + 72);
}

static u64 touch_exclusive(u64 page)
{
	u64 value;
	u32 failed;

	do {
		__asm__ volatile("ldxr %0, [%2]\n\tstxr %w1, %0, [%2]"
				 : "=&r"(value), "=&r"(failed)
				 : "r"(page + 128)
				 : "memory");
	} while (failed);
	return value;
}

/* The whole block of DC ZVA, if the CPU permits it, else a plain read. */
static u64 touch_zva(u64 page)
{
	if (!(read_sysreg(dczid_el0) & 0x10)) {
		__asm__ volatile("dc zva, %0" ::"r"(page) : "memory");
	}
	return read64(page + 2048);
}

/* Cache maintenance by address, then the page. */
static u64 touch_clean(u64 page)
{
	__asm__ volatile("dc civac, %0\n\tdc cvau, %0\n\tic ivau, %0" ::"r"(page) : "memory");
	return read32(page + 4);
}

enum order { UP, DOWN, STRIDE, SHUFFLED };

static const struct {
	touch_fn touch;
	enum order order;
} ways[] = {
	{touch_word, UP},     {touch_last_byte, DOWN}, {touch_pair, STRIDE},
	{touch_across, DOWN}, {touch_write, UP},       {touch_exclusive, SHUFFLED},
	{touch_zva, STRIDE},  {touch_clean, SHUFFLED},
};

/* The i-th page of `count` in some order; STRIDE and SHUFFLED are permutations of a power of two.
 */
static u64 page_in_order(enum order order, u64 i, u64 count)
{
	switch (order) {
	case DOWN:
		return count - 1 - i;
	case STRIDE:
		return i * 37 & (count - 1);
	case SHUFFLED:
		return (i * i + i) / 2 & (count - 1);
	default:
		return i;
	}
}

static u64 touch_chunk(u64 chunk, u32 way)
{
	u64 count = CHUNK / PAGE_SIZE, dirty = 0;

	for (u64 i = 0; i < count; i++) {
		u64 page = chunk + PAGE_SIZE * page_in_order(ways[way].order, i, count);

		if (page_is_free(page) && ways[way].touch(page)) {
			dirty_at = dirty++ ? dirty_at : page;
		}
	}
	return dirty;
}

/* Chunks in an order that leaves holes and comes back, as far as RAM's size lets it. */
static void check_first_touch(void)
{
	u64 chunks = machine.ram_size / CHUNK, dirty = 0;

	for (u64 pass = 0; pass < 3; pass++) {
		for (u64 i = chunks - 1 - pass; i < chunks; i -= 3) {
			dirty += touch_chunk(machine.ram_base + i * CHUNK, i % ARRAY_SIZE(ways));
		}
	}
	check("fresh_pages_are_zero_at_first_touch", !dirty, "%lu pages are not, as 0x%lx", dirty,
	      dirty_at);
}

/* Every byte but those that were loaded. */
static void check_all_zero(void)
{
	u64 dirty = 0;

	for (u64 a = machine.ram_base; a < ram_end();) {
		u64 skip = loaded_until(a);

		if (skip) {
			a = skip;
		} else if (!(a & 7) && !loaded_until(a + 7)) {
			if (read64(a)) {
				dirty_at = dirty++ ? dirty_at : a;
			}
			a += 8;
		} else {
			if (read8(a)) {
				dirty_at = dirty++ ? dirty_at : a;
			}
			a++;
		}
	}
	check("every_other_byte_is_zero", !dirty, "%lu words are not, as 0x%lx", dirty, dirty_at);
}

static void check_blob(void)
{
	u32 wrong = 0;

	for (u32 i = 0; i < BLOB_WORDS; i++) {
		wrong += ((const volatile u32 *)blob)[i] != i * 0x9e3779b1u;
	}
	check_equal("image_is_loaded_to_the_last_byte", wrong, 0);
}

/* ---- Patterns ---- */

static u64 pattern(u64 a, u64 seed)
{
	return (a ^ seed) * 0x9e3779b97f4a7c15ul ^ a >> 17;
}

/* One page's words by stores of another size each time. */
static void write_page(u64 page, u64 seed)
{
	u64 way = page / PAGE_SIZE % 4;

	for (u64 a = page; a < page + PAGE_SIZE; a += 8) {
		u64 v = pattern(a, seed);

		if (way == 0) {
			write64(a, v);
		} else if (way == 1) {
			write32(a + 4, (u32)(v >> 32));
			write32(a, (u32)v);
		} else if (way == 2) {
			for (u32 i = 8; i-- > 0;) {
				write8(a + i, (u8)(v >> 8 * i));
			}
		} else {
			__asm__ volatile("stp %w0, %w1, [%2]" ::"r"(v), "r"(v >> 32), "r"(a)
					 : "memory");
		}
	}
}

static u64 verify_page(u64 page, u64 seed)
{
	u64 wrong = 0;

	for (u64 a = page; a < page + PAGE_SIZE; a += 8) {
		wrong += read64(a) != pattern(a, seed);
	}
	if (wrong) {
		dirty_at = page;
	}
	return wrong;
}

static bool page_is_image(u64 page)
{
	return page + PAGE_SIZE > image_first() && page < image_last();
}

/* All of RAM but the image: written whole before the first byte of it is looked at again. */
static void check_pattern(const char *name, u64 seed, bool down)
{
	u64 pages = machine.ram_size / PAGE_SIZE, wrong = 0;

	for (u64 i = 0; i < pages; i++) {
		u64 page = machine.ram_base + PAGE_SIZE * (down ? pages - 1 - i : i);

		if (!page_is_image(page)) {
			write_page(page, seed);
		}
	}
	for (u64 i = 0; i < pages; i++) {
		u64 page = machine.ram_base + PAGE_SIZE * (down ? i : pages - 1 - i);

		if (!page_is_image(page)) {
			wrong += verify_page(page, seed);
		}
	}
	check(name, !wrong, "%lu words, as in page 0x%lx", wrong, dirty_at);
}

/* With the MMU off and on again: the same bytes, seen by device accesses and by cached ones. */
static void check_uncached_view(u64 seed)
{
	u64 wrong = 0, last = ram_end() - BLOCK_SIZE;

	for (u64 a = last; a < ram_end(); a += 64) {
		__asm__ volatile("dc civac, %0" ::"r"(a) : "memory");
	}
	mmu_off();
	for (u64 page = last; page < ram_end(); page += PAGE_SIZE) {
		wrong += page_is_image(page) ? 0 : verify_page(page, seed);
	}
	mmu_on();
	check_equal("same_bytes_with_the_mmu_off", wrong, 0);
}

void guest_main(void)
{
	print("touching [0x%lx, 0x%lx), image [0x%lx, 0x%lx)", machine.ram_base, ram_end(),
	      image_first(), image_last());
	check_first_touch();
	check_all_zero();
	check_blob();
	check_pattern("pattern_upwards", 0x1111, false);
	check_pattern("pattern_downwards", 0x2222, true);
	check_uncached_view(0x2222);
	check_blob();
}
