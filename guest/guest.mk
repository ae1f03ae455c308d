# The small guests: each is guest/NAME.c on guest/lib*.c and guest/start.S, linked anywhere (PIE that relocates
# itself) and flattened to build/guest/arm64/NAME.bin. Some carry a Linux Image header, some are plain flat
# binaries, so that both ways to be loaded are used; hello comes as both.
SMALL_WITH_HEADER = hello smp psci gic sysreg bench context pattern tables
SMALL_FLAT = abuse hello-flat touch hole mmio timer crash reset user
SMALL = $(SMALL_$(ARCH))
SMALL_arm64 = $(SMALL_WITH_HEADER) $(SMALL_FLAT)
SMALL_FLAGS = -std=gnu11 -O2 -g -ffreestanding -fno-strict-aliasing -fno-common -fpie -fvisibility=hidden \
	-fno-stack-protector -fno-tree-loop-distribute-patterns -mgeneral-regs-only -march=armv8-a \
	-mno-outline-atomics -mstrict-align $(WARN)
SMALL_LIB = $(wildcard guest/lib*.c)

guests: $(SMALL:%=$(G)/%.bin)
$(G)/small/%.o: guest/%.c Makefile guest/guest.mk | build/setup.host
	$(call say,CC)
	$(Q)mkdir -p $(@D) && $(CROSS)gcc $(SMALL_FLAGS) $(DEPS) -c -o $@ $<
$(G)/small/start.o: guest/start.S guest/guest.mk | build/setup.host
	$(Q)mkdir -p $(@D) && $(CROSS)gcc $(DEPS) -c -o $@ $<
$(G)/small/start-header.o: guest/start.S guest/guest.mk | build/setup.host
	$(Q)mkdir -p $(@D) && $(CROSS)gcc -DIMAGE_HEADER $(DEPS) -c -o $@ $<
$(G)/small/hello-flat.o: $(G)/small/hello.o
	$(Q)cp $< $@
$(SMALL_WITH_HEADER:%=$(G)/%.bin): $(G)/%.bin: $(G)/small/start-header.o
$(SMALL_FLAT:%=$(G)/%.bin): $(G)/%.bin: $(G)/small/start.o
$(SMALL:%=$(G)/%.bin): $(G)/%.bin: $(G)/small/%.o $(SMALL_LIB:guest/%.c=$(G)/small/%.o) guest/guest.ld
	$(call say,GUEST)
	$(Q)$(CROSS)gcc -nostdlib -static-pie -Wl,--no-dynamic-linker,-z,norelro,-z,noexecstack,--build-id=none \
		-Wl,--no-warn-rwx-segments -T guest/guest.ld -o $(G)/small/$*.elf $(filter %.o,$^) -lgcc
	$(Q)$(CROSS)objcopy -O binary --set-section-flags .bss=alloc,load,contents $(G)/small/$*.elf $@
-include $(wildcard $(G)/small/*.d)
