## Lamina, a thin type-1 hypervisor. What can be asked for:
##
##   make run         boot CONFIG (QEMU, Bochs), with keyboard   make test       everything that shows it right
##   make check       say what is wrong with CONFIG             make bench      count instructions (bench-boot, -exits, -s2)
##   make mutants     do the tests notice wrong edits of s2?    make coverage   what of s2 they reach    make size   its size
##   make qemu-cmd    print run's command                       make gdb        run, stopped, with a debugger
##   make lint        formatting, cppcheck, the house's rules   make format     clang-format
##   make tags        for editors                               make clean      (distclean: downloads too)
##   make replay      misses of policies of reclaim on TRACE (or on samples), at SIZE pages, beside the optimum's
##   make exp         CONFIG with overcommit, in batch; OUT has samples and all else; STORE=zero|same|zswap|disk alone, POLICY=
##   make plot        draw what an experiment left in OUT: SVGs and their gnuplot scripts; TERM=dumb: text on the terminal
##   make sweep       make exp for each RATIO="1.0 1.5 2.0" and POLICY="clock adaptive": OUT/sweep.csv and a picture
##   make soak        random operations for SECONDS=600, with fresh seeds
##
##   ARCH=arm64|x86_64  CONFIG=configs/x.dts  CPU=cortex-a76|max|...|corei7_skylake_x|...  SMP=2  MEM=1024  TIMEOUT=seconds
##   BATCH=1 no keyboard   OUT=dir logs and summary   ICOUNT=1 repeatable   LOG=error|warn|info|debug   V=1 show commands
##   SWAP_DISK=file, DISK=name=file  what lamina,swap-disk and lamina,machine-disk are on, as QEMU has it
##   ACCEL=kvm  x86_64 in QEMU, where KVM gives VMX to its guests, instead of Bochs
##   ONLY=regex of names of tests   MUTANTS=120 how many   SEED=1 which   JOBS=2 how many at once
##   STEPS_PREEMPTIONS=n how deep tests/steps looks
#
# build/ARCH/         Lamina            build/host/       parser, tests and fuzzers for this machine
# build/guest/ARCH/   guests            build/debian/     what was downloaded
# Setup is a file like any other (build/setup.host, build/debian/ARCH/setup.ARCH): made once, by apt alone.

ARCH = arm64
CONFIG = $(CONFIG_$(ARCH))
CONFIG_arm64 = configs/two-linux.dts
CONFIG_x86_64 = configs/linux-pc.dts
CROSS_arm64 = aarch64-linux-gnu-
CROSS_x86_64 =
CROSS = $(CROSS_$(ARCH))
TRIPLET_arm64 = aarch64-linux-gnu
TRIPLET_x86_64 = x86_64-linux-gnu

B = build/$(ARCH)
G = build/guest/$(ARCH)
H = build/host
DEBIAN = build/debian/$(ARCH)
MAKEFLAGS += -j$(shell nproc)
Q = $(if $(V),,@)
say = $(if $(V),,@printf '  %-8s %s\n' $(1) $@)

WARN = -Wall -Wextra -Werror
DEPS = -MMD -MP
CFLAGS_arm64 = -fpie -march=armv8-a -mno-outline-atomics -mstrict-align
CFLAGS_x86_64 = -fno-pie -mno-red-zone -fcf-protection=none -fno-stack-protector
CFLAGS = -std=gnu11 -O2 -g -ffreestanding -fno-strict-aliasing -fno-common -fvisibility=hidden -fno-omit-frame-pointer \
	-mgeneral-regs-only $(WARN) -Iinclude -Iarch/$(ARCH) -isystem $(DEBIAN)/root/usr/include $(CFLAGS_$(ARCH))
LDFLAGS_arm64 = -static-pie -Wl,--no-dynamic-linker
LDFLAGS_x86_64 = -static -no-pie -Wl,-z,max-page-size=4096
LDFLAGS = -nostdlib -Wl,-z,noexecstack,--build-id=none,--no-warn-rwx-segments $(LDFLAGS_$(ARCH))
# lz4 names an allocator, in functions that nobody calls: whoever does ends in a panic.
LDFLAGS += -Wl,--defsym=calloc=__stack_chk_fail,--defsym=free=__stack_chk_fail
LIBS = $(LIBRARIES:%=$(DEBIAN)/root/usr/lib/$(TRIPLET_$(ARCH))/lib%.a) -lgcc
LIBRARIES = fdt lz4
# What a loader wants: the image of a Linux kernel, or (multiboot; QEMU's takes this class alone) a 32-bit ELF file.
FLATTEN_arm64 = -O binary
FLATTEN_x86_64 = -O elf32-i386

HYP = $(wildcard hyp/*.c arch/$(ARCH)/*.c arch/$(ARCH)/*.S) $(AML_$(ARCH))
OBJS = $(patsubst %,$(B)/%.o,$(basename $(HYP)))

# What the host compiles: the core, and of each machine what is logic alone, without assembly.
PURE_arm64 = guest_fdt image s2_armv8 s2_tlbi s2_vtcr vcache vgic vgic_bank vgic_dist vgic_lr vgic_redist vid vinject vpsci vsmccc \
	vsysreg vtime_pv vtrng
PURE_x86_64 = pc_boot pc_boot_params pc_image pc_image_linux pc_image_multiboot pc_map pc_multiboot_info s2_ept s2_ept_check s2_npt vacpi \
	vcpuid vdecode vfault vioapic vkvm_call vkvm_eoi vkvm_steal vlapic vlapic_delivery vlapic_ipi vlapic_registers vlapic_timer \
	vmailbox vstring vwalk
# What is compiled to tables rather than code: ASL, as an array in C.
AML_x86_64 = build/aml/dsdt.c
PURE = $(PURE_arm64:%=arch/arm64/%.c) $(PURE_x86_64:%=arch/x86_64/%.c) $(AML_x86_64)
CORE = $(filter-out hyp/main.c,$(wildcard hyp/*.c)) $(wildcard arch/fake/*.c) $(PURE)
CHECK = tools/check.c $(wildcard hyp/config*.c hyp/text*.c hyp/reclaim*.c) hyp/image_mark.c hyp/store_name.c
REPLAY = $(wildcard tools/replay*.c hyp/reclaim*.c)
CHECK_arm64 = arch/arm64/image.c
CHECK_x86_64 = $(wildcard arch/x86_64/image.c arch/x86_64/pc_*.c)
HOST_FLAGS = -g -O1 -fno-omit-frame-pointer $(WARN) -Iinclude -Iarch/fake -Iarch/arm64 -Iarch/x86_64
FUZZ = $(patsubst tests/fuzz/%.c,$(H)/fuzz-%,$(wildcard tests/fuzz/*.c))
FUZZ_SECONDS = 20
SECONDS = 600

RUN = tools/lamina $(1) --arch $(ARCH) $(CPU:%=--cpu %) $(SMP:%=--smp %) $(MEM:%=--mem %) $(ICOUNT:%=--icount) \
	$(ACCEL:%=--accel %) $(SWAP_DISK:%=--swap-disk %) $(DISK:%=--disk %) $(LOG:%=--log %) $(BATCH:%=--batch)
READY = $(B)/lamina.bin $(H)/check-$(ARCH) guests $(DISKS)
# Made for configurations that name it: it is large, and Debian's packages are downloaded for it.
DISKS = $(if $(shell grep -s debian-root.ext4 $(CONFIG)),build/guest/arm64/debian-root.ext4)

all: $(READY)

run: $(READY)
	$(Q)$(call RUN,run) $(OUT:%=--out %) $(TIMEOUT:%=--timeout %) $(CONFIG)

exp: $(READY)
	$(Q)$(call RUN,exp) --out $(or $(OUT),build/exp) $(TIMEOUT:%=--timeout %) $(STORE:%=--store %) $(POLICY:%=--policy %) $(CONFIG)

# TERM counts on the command line alone: a job without a terminal has TERM=dumb, too, and wants files.
plot: $(H)/replay
	$(Q)tools/lamina plot $(if $(filter command,$(word 1,$(origin TERM))),$(if $(filter dumb,$(TERM)),--terminal)) $(or $(OUT),build/exp)

sweep: $(READY)
	$(Q)$(call RUN,sweep) --out $(or $(OUT),build/sweep) $(TIMEOUT:%=--timeout %) $(if $(RATIO),--ratios '$(RATIO)') \
		$(if $(POLICY),--policies '$(POLICY)') $(CONFIG)

qemu-cmd: $(READY)
	$(Q)$(call RUN,qemu-cmd) $(CONFIG)

gdb: $(READY)
	$(Q)$(call RUN,gdb) $(CONFIG)

check: $(H)/check-$(ARCH) $(DISKS) | build/setup.host
	$(Q)tools/lamina check --arch $(ARCH) $(CONFIG)

# The other architecture's, by another make: what both would build is there before.
pc-ready: $(H)/check-x86_64 $(AML_x86_64) build/debian/x86_64/setup.x86_64
	$(Q)$(MAKE) --no-print-directory ARCH=x86_64 ready
ready: $(READY)

# Beside compiling, as it takes minutes; where packages cannot be had, its tests say so.
debian-disk: guests
	$(Q)tests/boot/debian/make-root || [ $$? = 77 ]

test: $(READY) pc-ready debian-disk $(H)/oracle $(H)/replay $(H)/unit/all $(H)/model/all $(H)/race/all $(H)/steps/all $(FUZZ)
	$(Q)tests/run --fuzz-seconds $(FUZZ_SECONDS) $(if $(ONLY),--only '$(ONLY)')

soak: $(H)/model/all
	$(Q)S2_MODEL_SECONDS=$(SECONDS) $< --gtest_brief=1

bench bench-boot bench-exits: $(READY)
bench bench-s2: $(H)/s2-bench
bench bench-boot bench-exits bench-s2:
	$(Q)tools/lamina bench $(if $(@:bench=),$(@:bench-%=%),boot exits s2) --arch $(ARCH)

# Misses of the policies of choice on a trace of page numbers, or on samples.
replay: $(H)/replay
	$(Q)mkdir -p build/bench && $< $(SIZE:%=--size %) --json build/bench/replay.json $(TRACE)

# How good the tests of the tables are, cheapest first; and how large the tables are.
TESTS_OF_TABLES = quick unit race $(patsubst tests/%,%,$(wildcard tests/steps))
mutants: $(TESTS_OF_TABLES:%=$(H)/%/all)
	$(Q)tests/mutants/run $(MUTANTS:%=--count %) $(SEED:%=--seed %) $(if $(ONLY),--only '$(ONLY)') \
		$(JOBS:%=--jobs %) $(TESTS_OF_TABLES)
# Losers of races are found by all orders of two CPUs with one preemption; more of them reach no more.
coverage: $(H)/cov/all $(H)/covsteps/all
	$(Q)STEPS_PREEMPTIONS=1 GTEST_FILTER=-*three_cpus* tools/coverage cov covsteps
size: | build/setup.host
	$(Q)tools/size

# Lamina. The first link's symbols become the table that backtraces are read with; it lies behind the
# code, so the second link moves none of them: that is checked.
$(B)/%.o: %.c Makefile | $(DEBIAN)/setup.$(ARCH) build/setup.host
	$(call say,CC)
	$(Q)mkdir -p $(@D) && $(CROSS)gcc $(CFLAGS) $(DEPS) -c -o $@ $<
$(B)/%.o: %.S Makefile | $(DEBIAN)/setup.$(ARCH) build/setup.host
	$(call say,AS)
	$(Q)mkdir -p $(@D) && $(CROSS)gcc $(CFLAGS) $(DEPS) -c -o $@ $<
$(B)/symbols.o: $(B)/symbols.S
	$(Q)$(CROSS)gcc -c -o $@ $<
$(B)/symbols.S: $(B)/first.elf tools/symbols
	$(Q)$(CROSS)nm -n $< | tools/symbols >$@
$(B)/first.elf: $(OBJS) arch/$(ARCH)/link.ld
	$(call say,LD)
	$(Q)$(CROSS)gcc $(LDFLAGS) -T arch/$(ARCH)/link.ld -o $@ $(OBJS) $(LIBS)
$(B)/lamina.elf: $(B)/first.elf $(B)/symbols.o
	$(call say,LD)
	$(Q)$(CROSS)gcc $(LDFLAGS) -T arch/$(ARCH)/link.ld -o $@ $(OBJS) $(B)/symbols.o $(LIBS)
	$(Q)$(CROSS)nm -n $@ | tools/symbols | cmp - $(B)/symbols.S || { rm -f $@; exit 1; }
$(B)/lamina.bin: $(B)/lamina.elf
	$(Q)$(CROSS)objcopy $(FLATTEN_$(ARCH)) $< $@

build/aml/%.c: arch/x86_64/%.asl Makefile | build/setup.host
	$(call say,IASL)
	$(Q)mkdir -p $(@D) && iasl -vs -tc -p $(@:.c=) $< >$(@:.c=.log) || { cat $(@:.c=.log) >&2; exit 1; }
	$(Q)sed -e 's/^unsigned char .*/#include "vacpi.h"\nconst u8 $*_aml[] =/' $(@:.c=.hex) >$@

# Guests: Debian's kernel with a ramdisk of ours, and the small ones.
guests: $(G)/vmlinuz $(G)/initramfs.cpio.gz
-include guest/guest.mk
$(G)/vmlinuz: $(DEBIAN)/setup.$(ARCH)
	$(Q)mkdir -p $(@D) && cp $(DEBIAN)/root/boot/vmlinuz-* $@ && cp $(DEBIAN)/versions $(@D)/versions
$(G)/ticks: guest/linux/ticks.c Makefile | build/setup.host
	$(Q)mkdir -p $(@D) && $(CROSS)gcc -O2 $(WARN) -static -nostdlib -fno-stack-protector -s -Wl,--build-id=none,-z,max-page-size=4096 -o $@ $<
$(G)/wsgen: guest/linux/wsgen.c Makefile | build/setup.host
	$(Q)mkdir -p $(@D) && $(CROSS)gcc -O2 $(WARN) -static -s -Wl,--build-id=none -o $@ $< -lm
$(G)/initramfs.cpio.gz: tools/initramfs guest/linux/init $(G)/ticks $(G)/wsgen $(DEBIAN)/setup.$(ARCH)
	$(call say,CPIO)
	$(Q)tools/initramfs $(DEBIAN)/root guest/linux/init $@ $(G)/ticks $(G)/wsgen

# A disk with Debian. The kernel and the ramdisk only bring it up, so a newer one is no reason to make it again.
build/guest/arm64/debian-root.ext4: tools/debian-root $(shell find guest/debian -type f) | \
		build/guest/arm64/vmlinuz build/guest/arm64/initramfs.cpio.gz build/setup.host
	$(Q)tools/debian-root $(@D)/vmlinuz $(@D)/initramfs.cpio.gz $@

# Host: the same core, with sanitizers.
# One set of objects for each sanitizer; the core and the tests of that kind, linked into one program.
# And sets without: quick is for mutants, cov and covsteps count what ran, bench is what is measured.
KINDS = unit model race steps fuzz quick cov covsteps bench
SAN_unit = -fsanitize=address,undefined
SAN_model = -O2
SAN_race = -fsanitize=thread
SAN_fuzz = -fsanitize=address,undefined,fuzzer-no-link -w
SAN_cov = --coverage -fprofile-update=atomic -O0
SAN_bench = -O2 -fomit-frame-pointer -mgeneral-regs-only
# steps: what thread sanitizer makes of C calls tests/steps/hooks.cc at every atomic access; C++ is the scheduler.
SAN_steps = -fsanitize=thread -O2
SANXX_steps = -O2
SAN_covsteps = -fsanitize=thread --coverage -O0
$(foreach kind,$(KINDS),$(eval CC_$(kind) = gcc))
CC_fuzz = clang
core_objects = $(patsubst %,$(H)/$(1)/%.o,$(basename $(CORE)))
define host_objects
$(H)/$(1)/%.o: %.c Makefile | build/setup.host
	$$(call say,CC)
	$$(Q)mkdir -p $$(@D) && $(CC_$(1)) -std=gnu11 $$(HOST_FLAGS) $(SAN_$(1)) $$(DEPS) -c -o $$@ $$<
$(H)/$(1)/%.o: %.cc Makefile | build/setup.host
	$$(call say,CXX)
	$$(Q)mkdir -p $$(@D) && g++ -std=c++17 -Wno-missing-field-initializers $$(HOST_FLAGS) $(or $(SANXX_$(1)),$(SAN_$(1))) \
		$$(DEPS) -c -o $$@ $$<
endef
$(foreach kind,$(KINDS),$(eval $(call host_objects,$(kind))))
# The core is an archive, so that a program links only what its tests reach.
$(foreach kind,$(KINDS),$(eval $(H)/$(kind)/core.a: $(call core_objects,$(kind))))
$(H)/%/core.a:
	$(Q)rm -f $@ && ar rcs $@ $^
$(H)/unit/all: $(patsubst %.cc,$(H)/unit/%.o,$(wildcard tests/unit/*.cc tests/model/*.cc)) $(H)/unit/core.a
# Random operations by the million, too many for sanitizers; a few thousand are among the unit tests.
$(H)/model/all: $(patsubst %.cc,$(H)/model/%.o,$(wildcard tests/unit/s2_model_*.cc) \
	$(filter-out %_test.cc,$(wildcard tests/model/*.cc))) $(H)/model/core.a
$(H)/race/all: $(patsubst %.cc,$(H)/race/%.o,$(wildcard tests/race/*.cc)) $(H)/race/core.a
# The tests of the tables alone; with the core that counts, those of their races, too.
quick_tests = $(patsubst %.cc,$(H)/quick/%.o,$(wildcard $(1)))
TABLE_TESTS = $(call quick_tests,tests/unit/s2*.cc $(filter-out %_test.cc,$(wildcard tests/model/*.cc)))
$(H)/quick/all: $(TABLE_TESTS) $(H)/quick/core.a
$(H)/cov/all: $(TABLE_TESTS) $(call quick_tests,tests/race/s2*.cc) $(H)/cov/core.a
$(H)/unit/all $(H)/model/all $(H)/race/all $(H)/quick/all $(H)/cov/all:
	$(call say,LD)
	$(Q)g++ $(SAN_$(notdir $(@D))) -o $@ $^ -lgmock -lgtest -lgtest_main -lfdt -l:liblz4.a -pthread
$(H)/s2-bench: $(H)/bench/tests/bench/s2_bench.o $(H)/bench/core.a
	$(call say,LD)
	$(Q)gcc -o $@ $^ -lfdt -l:liblz4.a -pthread
STEPS_TESTS = $(patsubst %,$(H)/steps/%.o,$(basename $(wildcard tests/steps/*.cc tests/steps/*.c)))
$(H)/steps/all: $(STEPS_TESTS) $(H)/steps/core.a
$(H)/covsteps/all: $(STEPS_TESTS) $(H)/covsteps/core.a
$(H)/steps/all $(H)/covsteps/all:
	$(call say,LD)
	$(Q)g++ $(if $(findstring cov,$(@D)),--coverage) -o $@ $^ -lgtest -lgtest_main -pthread
$(foreach arch,arm64 x86_64,$(eval $(H)/check-$(arch): $(patsubst %.c,$(H)/unit/%.o,$(CHECK) $(CHECK_$(arch)))))
$(H)/check-%:
	$(call say,LD)
	$(Q)gcc $(SAN_unit) -o $@ $^ -lfdt
$(H)/replay: $(REPLAY:%.c=$(H)/model/%.o)
	$(call say,LD)
	$(Q)gcc -o $@ $^ -lm
# Runs a guest on KVM, laid out as Lamina does it.
$(H)/oracle: $(patsubst %.c,$(H)/unit/%.o,tests/oracle/oracle.c $(filter-out tools/%,$(CHECK)) $(CHECK_x86_64))
	$(call say,LD)
	$(Q)gcc $(SAN_unit) -o $@ $^ -lfdt
$(H)/fuzz-%: $(H)/fuzz/tests/fuzz/%.o $(H)/fuzz/core.a
	$(call say,LD)
	$(Q)clang -fsanitize=fuzzer,address,undefined -o $@ $^ -lfdt -l:liblz4.a -pthread

# Setup.
build/setup.host: tools/setup
	$(Q)tools/setup host build
$(foreach arch,arm64 x86_64,build/debian/$(arch)/setup.$(arch)): tools/setup | build/setup.host
	$(Q)tools/setup $(notdir $(@D)) $(@D)

C_FILES = $(wildcard hyp/*.c include/*/*.h arch/*/*.c arch/*/*.h guest/*.[ch] guest/*/*.[ch] tools/*.[ch] \
	tests/*/*.cc tests/*/*.c tests/*/*.h)
format: | build/setup.host
	$(Q)clang-format -i $(C_FILES)
lint: | build/setup.host
	$(Q)clang-format --dry-run -Werror $(C_FILES)
	$(Q)$(foreach arch,arm64 x86_64,cppcheck -q --error-exitcode=1 --std=c11 --inline-suppr --enable=warning,portability \
		--suppress=uninitvar -Iinclude -Iarch/$(arch) hyp arch/$(arch) tools && ) true
	$(Q)tools/lint
tags: | build/setup.host
	$(Q)ctags $(HYP) $(wildcard include/*/*.h arch/$(ARCH)/*.h)

help:
	@sed -n 's/^## \{0,1\}//p' Makefile
clean:
	$(Q)rm -rf $(filter-out build/debian build/setup.%,$(wildcard build/*))
distclean:
	$(Q)rm -rf build

.PHONY: all ready pc-ready run exp plot sweep qemu-cmd gdb check test debian-disk soak bench bench-boot bench-exits bench-s2 replay mutants coverage size guests format lint tags help \
	clean distclean
.DELETE_ON_ERROR:
.SECONDARY:
-include $(OBJS:.o=.d) $(wildcard $(H)/*/*/*.d $(H)/*/*/*/*.d)
