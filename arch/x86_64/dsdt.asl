/*
 * What an x86 guest cannot find by itself (ACPI 6.4, chapters 5 to 7): its serial port, the row of
 * virtio-mmio slots, and how it turns itself off. Addresses and interrupts are those of pc_map.h,
 * the sleep type is vacpi.h's; iasl knows no macros with arguments, so the slots stand in full.
 */
DefinitionBlock ("", "DSDT", 2, "LAMINA", "GUEST", 1)
{
	Name (_S5, Package () {5, 0, 0, 0})

	Scope (\_SB)
	{
		Device (COM1)
		{
			Name (_HID, EisaId ("PNP0501"))
			Name (_UID, 0)
			Name (_CRS, ResourceTemplate () {
				IO (Decode16, 0x3f8, 0x3f8, 0, 8)
				IRQ (Edge, ActiveHigh, Exclusive) {4}
			})
		}

		Device (VIO0)
		{
			Name (_HID, "LNRO0005")
			Name (_UID, 0)
			Name (_CRS, ResourceTemplate () {
				Memory32Fixed (ReadWrite, 0xd0000000, 0x200)
				Interrupt (ResourceConsumer, Level, ActiveHigh, Exclusive) {16}
			})
		}

		Device (VIO1)
		{
			Name (_HID, "LNRO0005")
			Name (_UID, 1)
			Name (_CRS, ResourceTemplate () {
				Memory32Fixed (ReadWrite, 0xd0000200, 0x200)
				Interrupt (ResourceConsumer, Level, ActiveHigh, Exclusive) {17}
			})
		}

		Device (VIO2)
		{
			Name (_HID, "LNRO0005")
			Name (_UID, 2)
			Name (_CRS, ResourceTemplate () {
				Memory32Fixed (ReadWrite, 0xd0000400, 0x200)
				Interrupt (ResourceConsumer, Level, ActiveHigh, Exclusive) {18}
			})
		}

		Device (VIO3)
		{
			Name (_HID, "LNRO0005")
			Name (_UID, 3)
			Name (_CRS, ResourceTemplate () {
				Memory32Fixed (ReadWrite, 0xd0000600, 0x200)
				Interrupt (ResourceConsumer, Level, ActiveHigh, Exclusive) {19}
			})
		}

		Device (VIO4)
		{
			Name (_HID, "LNRO0005")
			Name (_UID, 4)
			Name (_CRS, ResourceTemplate () {
				Memory32Fixed (ReadWrite, 0xd0000800, 0x200)
				Interrupt (ResourceConsumer, Level, ActiveHigh, Exclusive) {20}
			})
		}

		Device (VIO5)
		{
			Name (_HID, "LNRO0005")
			Name (_UID, 5)
			Name (_CRS, ResourceTemplate () {
				Memory32Fixed (ReadWrite, 0xd0000a00, 0x200)
				Interrupt (ResourceConsumer, Level, ActiveHigh, Exclusive) {21}
			})
		}

		Device (VIO6)
		{
			Name (_HID, "LNRO0005")
			Name (_UID, 6)
			Name (_CRS, ResourceTemplate () {
				Memory32Fixed (ReadWrite, 0xd0000c00, 0x200)
				Interrupt (ResourceConsumer, Level, ActiveHigh, Exclusive) {22}
			})
		}

		Device (VIO7)
		{
			Name (_HID, "LNRO0005")
			Name (_UID, 7)
			Name (_CRS, ResourceTemplate () {
				Memory32Fixed (ReadWrite, 0xd0000e00, 0x200)
				Interrupt (ResourceConsumer, Level, ActiveHigh, Exclusive) {23}
			})
		}
	}
}
