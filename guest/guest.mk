# The small guests: each is NAME.c, of guest/ or of the architecture's folder in it, on lib*.c of both.
#
# arm64: linked anywhere (PIE that relocates itself) and flattened to build/guest/arm64/NAME.bin. Some carry a
# Linux Image header, some are plain flat binaries, so that both ways to be loaded are used; hello comes as both.
# x86_64: multiboot kernels, build/guest/x86_64/NAME.bin.
SMALL_WITH_HEADER = hello smp psci gic sysreg bench context pattern tables dirty shootdown keys
SMALL_FLAT = abuse hello-flat touch hole mmio timer crash reset user
SMALL = $(SMALL_$(ARCH))
SMALL_arm64 = $(SMALL_WITH_HEADER) $(SMALL_FLAT)
SMALL_x86_64 = dirty keys shootdown tables $(filter-out lib% oracle_%,$(basename $(notdir $(wildcard guest/x86_64/*.c))))
SMALL_FLAGS = -std=gnu11 -O2 -g -ffreestanding -fno-strict-aliasing -fno-common -fvisibility=hidden \
	-fno-stack-protector -fno-tree-loop-distribute-patterns -mgeneral-regs-only $(SMALL_FLAGS_$(ARCH)) \
	-Iguest -Iguest/$(ARCH) $(WARN)
SMALL_FLAGS_arm64 = -fpie -march=armv8-a -mno-outline-atomics -mstrict-align
# gcc 12 ends an interrupt handler that it shrink-wrapped by RET where it leaves early.
SMALL_FLAGS_x86_64 = -fno-pie -mno-red-zone -fcf-protection=none -fno-shrink-wrap
SMALL_LIB = $(notdir $(wildcard guest/lib*.c guest/$(ARCH)/lib*.c))

guests: $(SMALL:%=$(G)/%.bin)
vpath %.c guest guest/$(ARCH)
$(G)/obj/%.o: %.c Makefile guest/guest.mk | build/setup.host
	$(call say,CC)
	$(Q)mkdir -p $(@D) && $(CROSS)gcc $(SMALL_FLAGS) $(DEPS) -c -o $@ $<
$(G)/obj/start.o: guest/$(ARCH)/start.S guest/guest.mk | build/setup.host
	$(Q)mkdir -p $(@D) && $(CROSS)gcc $(DEPS) -c -o $@ $<
$(G)/obj/start-header.o: guest/$(ARCH)/start.S guest/guest.mk | build/setup.host
	$(Q)mkdir -p $(@D) && $(CROSS)gcc -DIMAGE_HEADER $(DEPS) -c -o $@ $<
$(G)/obj/hello-flat.o: $(G)/obj/hello.o
	$(Q)cp $< $@
$(SMALL_WITH_HEADER:%=build/guest/arm64/%.bin): $(G)/obj/start-header.o
$(SMALL_FLAT:%=build/guest/arm64/%.bin) $(SMALL_x86_64:%=build/guest/x86_64/%.bin): $(G)/obj/start.o
# More than one file is only this one.
build/guest/x86_64/oracle.bin: $(patsubst guest/x86_64/%.c,build/guest/x86_64/obj/%.o,$(wildcard guest/x86_64/oracle_*.c))
SMALL_LDFLAGS_arm64 = -static-pie -Wl,--no-dynamic-linker,-z,norelro
SMALL_LDFLAGS_x86_64 = -static -no-pie
SMALL_FLATTEN_arm64 = -O binary --set-section-flags .bss=alloc,load,contents
SMALL_FLATTEN_x86_64 = -O elf32-i386
$(SMALL:%=$(G)/%.bin): $(G)/%.bin: $(G)/obj/%.o $(SMALL_LIB:%.c=$(G)/obj/%.o) guest/$(ARCH)/guest.ld
	$(call say,GUEST)
	$(Q)$(CROSS)gcc -nostdlib $(SMALL_LDFLAGS_$(ARCH)) -Wl,-z,noexecstack,--build-id=none \
		-Wl,--no-warn-rwx-segments -T guest/$(ARCH)/guest.ld -o $(G)/obj/$*.elf $(filter %.o,$^) -lgcc
	$(Q)$(CROSS)objcopy $(SMALL_FLATTEN_$(ARCH)) $(G)/obj/$*.elf $@
-include $(wildcard $(G)/obj/*.d)
