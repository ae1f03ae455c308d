/* How fast the time-stamp counter is: measured against the PC's own timer, an 8254. */
#include "hyp/time.h"

#include "machine.h"

#define PIT_HZ 1193182
#define PIT_CHANNEL_2 0x42
#define PIT_COMMAND 0x43
#define PIT_ONE_SHOT_2 0xb0 /* channel 2, both bytes, mode 0: its output rises at the end */
#define PORT_B 0x61
#define PORT_B_GATE_2 BIT(0)
#define PORT_B_SPEAKER BIT(1)
#define PORT_B_OUTPUT_2 BIT(5)

#define MEASURED_PARTS 100 /* of a second: one */

void timer_init(void)
{
	const u32 count = PIT_HZ / MEASURED_PARTS;
	u64 start;

	out8(PORT_B, (u8)((in8(PORT_B) & ~(PORT_B_SPEAKER)) | PORT_B_GATE_2));
	out8(PIT_COMMAND, PIT_ONE_SHOT_2);
	out8(PIT_CHANNEL_2, count & 0xff);
	out8(PIT_CHANNEL_2, count >> 8);
	start = arch_now();
	while (!(in8(PORT_B) & PORT_B_OUTPUT_2)) {
		cpu_relax();
	}
	time_set_hz((arch_now() - start) * MEASURED_PARTS);
}
