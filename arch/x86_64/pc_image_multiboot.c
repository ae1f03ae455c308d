/*
 * A multiboot-1 kernel: an ELF file with a header of three words near its start, or any file whose
 * header has addresses too. It is linked for where it lies, so it cannot be moved.
 */
#include "pc_image_internal.h"

#include <linux/elf.h>
#include <string.h>

#include "hyp/image_mark.h"
#include "hyp/log.h"

#include "pc_multiboot.h"

/* Where the header's first three words lie in the file, or NOT_FOUND. */
#define NOT_FOUND (~0ull)

static u64 find_header(const struct config_module *kernel)
{
	u64 end = min_u64(kernel->size, MULTIBOOT_SEARCH);

	for (u64 at = 0; at + 12 <= end; at += 4) {
		const u8 *words = kernel->bytes + at;

		if (read_le32(words) == MULTIBOOT_MAGIC &&
		    read_le32(words) + read_le32(words + 4) + read_le32(words + 8) == 0) {
			return at;
		}
	}
	return NOT_FOUND;
}

bool pc_is_multiboot(const struct config_module *kernel)
{
	return find_header(kernel) != NOT_FOUND;
}

static enum status refuse(const char *what, char *why, size_t size)
{
	text_format(why, size, "%s", what);
	return INVALID;
}

static enum status refuse_short(u64 offset, u64 length, char *why, size_t size)
{
	text_format(
		why, size,
		"a multiboot kernel cut short: 0x%llx bytes from 0x%llx on are not in the file; "
		"copy it again",
		(unsigned long long)length, (unsigned long long)offset);
	return INVALID;
}

/* Alignment of modules and sizes of memory are given to every kernel, asked for or not. */
static enum status check_flags(u32 flags, char *why, size_t size)
{
	u32 strange =
		flags & MULTIBOOT_REQUIRED & ~(MULTIBOOT_ALIGN_MODULES | MULTIBOOT_WANT_MEMORY);

	if (strange & MULTIBOOT_WANT_VIDEO) {
		return refuse("a multiboot kernel that requires a video mode; build it without",
			      why, size);
	}
	if (strange != 0) {
		text_format(why, size,
			    "a multiboot kernel that requires what multiboot 1 does not have "
			    "(flags 0x%x); build it without",
			    flags);
		return INVALID;
	}
	return OK;
}

/* ---- Parts ----------------------------------------------------------------------------------- */

static enum status check_clear(const struct pc_file *file, const struct pc_segment *segment,
			       char *why, size_t size)
{
	for (u32 i = 0; i < file->segment_count; i++) {
		if (pc_spans_overlap(pc_segment_span(segment),
				     pc_segment_span(&file->segments[i]))) {
			text_format(why, size,
				    "a multiboot kernel of which two parts lie at 0x%llx",
				    (unsigned long long)max_u64(segment->start,
								file->segments[i].start));
			return INVALID;
		}
	}
	return OK;
}

/* Adds a part that occupies memory, if a guest of the largest size has RAM for it there. */
static enum status add_segment(struct pc_file *file, struct pc_segment segment, char *why,
			       size_t size)
{
	if (segment.start >= PC_LOW_RAM_MAX || segment.size > PC_LOW_RAM_MAX - segment.start ||
	    !pc_span_is_free(pc_segment_span(&segment), PC_LOW_RAM_MAX)) {
		text_format(why, size,
			    "a multiboot kernel with 0x%llx bytes for 0x%llx; link it between "
			    "1 MiB and 3 GiB",
			    (unsigned long long)segment.size, (unsigned long long)segment.start);
		return INVALID;
	}
	if (file->segment_count == PC_SEGMENTS_MAX) {
		text_format(why, size,
			    "a multiboot kernel of more than %u parts; link it into fewer",
			    PC_SEGMENTS_MAX);
		return INVALID;
	}

	enum status status = check_clear(file, &segment, why, size);

	if (status == OK) {
		file->segments[file->segment_count++] = segment;
	}
	return status;
}

/* ---- Parts by the header's addresses -----------------------------------------------------------
 */

/* Sizes in the file and in memory; false when the addresses contradict each other. */
static bool measure(const struct multiboot_header *h, u64 header_at, u64 file_size,
		    struct pc_segment *segment)
{
	u64 before = (u64)h->header_addr - h->load_addr; /* of the header, loaded with it */

	if (h->load_addr > h->header_addr || before > header_at) {
		return false;
	}
	segment->start = h->load_addr;
	segment->file_offset = header_at - before;
	segment->file_size = file_size - segment->file_offset;
	if (h->load_end_addr != 0) {
		segment->file_size = (u64)h->load_end_addr - h->load_addr;
	}
	segment->size = segment->file_size;
	if (h->bss_end_addr != 0) {
		segment->size = (u64)h->bss_end_addr - h->load_addr;
	}
	return (h->load_end_addr == 0 || h->load_end_addr > h->load_addr) &&
	       (h->bss_end_addr == 0 || h->bss_end_addr > h->load_addr) &&
	       segment->size >= segment->file_size;
}

static enum status inspect_addresses(const struct config_module *kernel, u64 header_at,
				     struct pc_file *file, char *why, size_t size)
{
	struct multiboot_header header;
	struct pc_segment segment;

	if (kernel->size - header_at < sizeof(header)) {
		return refuse_short(header_at, sizeof(header), why, size);
	}
	memcpy(&header, kernel->bytes + header_at, sizeof(header));
	if (!measure(&header, header_at, kernel->size, &segment)) {
		return refuse("a multiboot kernel whose header's addresses contradict each other",
			      why, size);
	}
	if (segment.file_size > kernel->size - segment.file_offset) {
		return refuse_short(segment.file_offset, segment.file_size, why, size);
	}
	file->entry = header.entry_addr;
	return add_segment(file, segment, why, size);
}

/* ---- Parts by the program headers of ELF, of either class --------------------------------------
 */

/* What we need of the two forms of headers, in the wider type. */
struct elf {
	bool is_64;
	u32 machine, count, entry_size;
	u64 entry, headers_at;
};

static struct elf read_elf(const u8 *bytes)
{
	Elf32_Ehdr narrow;
	Elf64_Ehdr wide;

	if (bytes[EI_CLASS] == ELFCLASS64) {
		memcpy(&wide, bytes, sizeof(wide));
		return (struct elf){
			.is_64 = true,
			.machine = wide.e_machine,
			.count = wide.e_phnum,
			.entry_size = wide.e_phentsize,
			.entry = wide.e_entry,
			.headers_at = wide.e_phoff,
		};
	}
	memcpy(&narrow, bytes, sizeof(narrow));
	return (struct elf){
		.machine = narrow.e_machine,
		.count = narrow.e_phnum,
		.entry_size = narrow.e_phentsize,
		.entry = narrow.e_entry,
		.headers_at = narrow.e_phoff,
	};
}

static Elf64_Phdr read_program_header(const struct elf *elf, const u8 *bytes)
{
	Elf32_Phdr narrow;
	Elf64_Phdr wide;

	if (elf->is_64) {
		memcpy(&wide, bytes, sizeof(wide));
		return wide;
	}
	memcpy(&narrow, bytes, sizeof(narrow));
	return (Elf64_Phdr){
		.p_type = narrow.p_type,
		.p_offset = narrow.p_offset,
		.p_vaddr = narrow.p_vaddr,
		.p_paddr = narrow.p_paddr,
		.p_filesz = narrow.p_filesz,
		.p_memsz = narrow.p_memsz,
	};
}

/* An ELF file for this machine, whose program headers are all inside it. */
static enum status check_elf(const struct config_module *kernel, const struct elf *elf, char *why,
			     size_t size)
{
	u64 least = elf->is_64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);
	u64 length = (u64)elf->count * elf->entry_size;

	if (elf->machine != EM_386 && elf->machine != EM_X86_64) {
		text_format(why, size, "an ELF file for machine %u; give one for x86",
			    elf->machine);
		return INVALID;
	}
	if (elf->count == 0 || elf->entry_size < least) {
		return refuse("an ELF file without program headers; give a linked kernel", why,
			      size);
	}
	if (elf->headers_at > kernel->size || length > kernel->size - elf->headers_at) {
		return refuse_short(elf->headers_at, length, why, size);
	}
	return OK;
}

static enum status add_program(const struct config_module *kernel, const Elf64_Phdr *program,
			       struct pc_file *file, char *why, size_t size)
{
	if (program->p_filesz > program->p_memsz) {
		return refuse("a multiboot kernel with a part larger in the file than in memory",
			      why, size);
	}
	if (program->p_filesz != 0 && (program->p_offset > kernel->size ||
				       program->p_filesz > kernel->size - program->p_offset)) {
		return refuse_short(program->p_offset, program->p_filesz, why, size);
	}
	return add_segment(file,
			   (struct pc_segment){
				   .start = program->p_paddr,
				   .size = program->p_memsz,
				   .file_offset = program->p_filesz != 0 ? program->p_offset : 0,
				   .file_size = program->p_filesz,
			   },
			   why, size);
}

/* The entry as ELF has it is virtual; paging is off, so the part that has it says where it lies. */
static u64 physical_entry(const struct elf *elf, const Elf64_Phdr *program, u64 found)
{
	u64 offset = elf->entry - program->p_vaddr;

	return offset < program->p_memsz ? program->p_paddr + offset : found;
}

static enum status inspect_elf(const struct config_module *kernel, struct pc_file *file, char *why,
			       size_t size)
{
	struct elf elf = read_elf(kernel->bytes);
	enum status status = check_elf(kernel, &elf, why, size);

	file->entry = elf.entry;
	for (u32 i = 0; status == OK && i < elf.count; i++) {
		Elf64_Phdr program = read_program_header(&elf, kernel->bytes + elf.headers_at +
								       (u64)i * elf.entry_size);

		if (program.p_type == PT_LOAD && program.p_memsz != 0) {
			file->entry = physical_entry(&elf, &program, file->entry);
			status = add_program(kernel, &program, file, why, size);
		}
	}
	return status;
}

/* ---- All ------------------------------------------------------------------------------------- */

static bool is_elf(const struct config_module *kernel)
{
	return image_has(kernel, 0, ELFMAG, SELFMAG) && kernel->size >= sizeof(Elf64_Ehdr) &&
	       (kernel->bytes[EI_CLASS] == ELFCLASS32 || kernel->bytes[EI_CLASS] == ELFCLASS64) &&
	       kernel->bytes[EI_DATA] == ELFDATA2LSB;
}

static enum status check_entry(const struct pc_file *file, char *why, size_t size)
{
	for (u32 i = 0; i < file->segment_count; i++) {
		if (file->entry - file->segments[i].start < file->segments[i].size) {
			return OK;
		}
	}
	text_format(why, size, "a multiboot kernel whose entry 0x%llx is in no part of it",
		    (unsigned long long)file->entry);
	return INVALID;
}

static enum status inspect_parts(const struct config_module *kernel, u64 header_at, u32 flags,
				 struct pc_file *file, char *why, size_t size)
{
	if (flags & MULTIBOOT_HAS_ADDRESSES) {
		return inspect_addresses(kernel, header_at, file, why, size);
	}
	if (is_elf(kernel)) {
		return inspect_elf(kernel, file, why, size);
	}
	return refuse("a multiboot kernel without addresses that is no ELF file; give the ELF file",
		      why, size);
}

enum status pc_multiboot_inspect(const struct config_module *kernel, struct pc_file *file,
				 char *why, size_t size)
{
	u64 header_at = find_header(kernel);
	u32 flags = read_le32(kernel->bytes + header_at + 4);
	enum status status = check_flags(flags, why, size);

	file->kind = PC_MULTIBOOT;
	file->ramdisk_limit = PC_LOW_RAM_MAX;
	file->command_line_max = PAGE_SIZE - 1;
	if (status == OK) {
		status = inspect_parts(kernel, header_at, flags, file, why, size);
	}
	return status == OK ? check_entry(file, why, size) : status;
}
