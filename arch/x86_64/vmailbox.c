#include "vmailbox.h"

#include <string.h>

#define COMMAND 0
#define COMMAND_SIZE 2
#define APIC_ID 4
#define VECTOR 8
#define COMMAND_WAKE 1

static bool is_word(const struct vmailbox *mailbox, u64 offset, unsigned size)
{
	return offset < sizeof(mailbox->words) && size <= sizeof(mailbox->words) - offset;
}

static u64 read(void *device, unused struct vcpu *vcpu, u64 offset, unsigned size)
{
	struct vmailbox *mailbox = device;
	u64 value = 0;

	lock_take(&mailbox->lock);
	if (is_word(mailbox, offset, size)) {
		memcpy(&value, mailbox->words + offset, size);
	}
	lock_drop(&mailbox->lock);
	return value;
}

/* True: there was a command to wake somebody up; it is taken. */
static bool take_command(struct vmailbox *mailbox, u32 *apic_id, u64 *vector)
{
	u16 command;

	memcpy(&command, mailbox->words + COMMAND, COMMAND_SIZE);
	memset(mailbox->words + COMMAND, 0, COMMAND_SIZE);
	memcpy(apic_id, mailbox->words + APIC_ID, sizeof(*apic_id));
	memcpy(vector, mailbox->words + VECTOR, sizeof(*vector));
	return command == COMMAND_WAKE;
}

static void write(void *device, unused struct vcpu *vcpu, u64 offset, unsigned size, u64 value)
{
	struct vmailbox *mailbox = device;
	bool wakes = false;
	u32 apic_id;
	u64 vector;

	if (!is_word(mailbox, offset, size)) {
		return;
	}
	lock_take(&mailbox->lock);
	memcpy(mailbox->words + offset, &value, size);
	if (offset < COMMAND + COMMAND_SIZE) {
		wakes = take_command(mailbox, &apic_id, &vector);
	}
	lock_drop(&mailbox->lock);
	if (wakes) {
		mailbox->wake(mailbox->context, apic_id, vector);
	}
}

const struct mmio_ops vmailbox_ops = {.read = read, .write = write};

void vmailbox_reset(struct vmailbox *mailbox)
{
	memset(mailbox->words, 0, sizeof(mailbox->words));
}
