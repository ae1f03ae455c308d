// Views that a guest may switch to: what is there is the base's, what is allowed is theirs.
#include "vm_asked_machine.h"

namespace
{

constexpr u8 kAll = S2_RWX;

class VmView : public AskedVm
{
      protected:
	u8 add(u8 perm = kAll)
	{
		u32 number = 0;

		EXPECT_EQ(vm_view_add(vm, perm, &number), OK);
		return (u8)number;
	}

	// As the guest: the same instruction until it goes on, or is told why not.
	enum status access(u8 view, u64 at, u8 access)
	{
		for (int tries = 0; tries < 8; tries++) {
			struct s2_leaf leaf = s2_query(vm_view(vm, view), gpa(at));
			struct exit fault = fault_at(at, access, view);
			enum status status;

			if (leaf.kind == S2_LEAF && (leaf.attr.perm & access) == access) {
				return OK;
			}
			status = vm_view_fault(vm, &fault);
			if (status != OK && status != AGAIN) {
				return status;
			}
		}
		return EXISTS; // it goes round in circles
	}

	hpa_t frame_in(struct s2 *s2, u64 at)
	{
		return s2_query(s2, gpa(at)).hpa;
	}
};

TEST_F(VmView, views_are_numbered_from_1)
{
	EXPECT_EQ(vm_view(vm, 0), nullptr);
	EXPECT_EQ(vm_view(vm, 1), nullptr);
	EXPECT_EQ(add(), 1);
	EXPECT_EQ(add(), 2);
	EXPECT_NE(vm_view(vm, 2), nullptr);
	EXPECT_EQ(vm_view(vm, 3), nullptr);
	EXPECT_EQ(vm_view(vm, ~0u), nullptr);
}

TEST_F(VmView, there_are_only_so_many)
{
	u32 number;

	for (int i = 0; i < VM_VIEWS_MAX; i++) {
		add();
	}
	EXPECT_EQ(vm_view_add(vm, kAll, &number), FULL);
	vm_view_drop_all(vm);
	EXPECT_EQ(add(), 1);
}

TEST_F(VmView, the_first_touch_may_be_in_a_view)
{
	u8 view = add();

	EXPECT_EQ(access(view, kRam + MIB(2), ACCESS_WRITE), OK);
	EXPECT_EQ(frame_in(&vm->s2, kRam + MIB(2)).v, frame_in(vm_view(vm, view), kRam + MIB(2)).v);
}

TEST_F(VmView, what_a_view_forbids_is_denied_and_the_base_still_allows)
{
	u8 view = add(S2_RX);

	EXPECT_EQ(access(view, kRam, ACCESS_READ), OK);
	EXPECT_EQ(access(view, kRam, ACCESS_EXEC), OK);
	EXPECT_EQ(access(view, kRam, ACCESS_WRITE), DENIED);
	EXPECT_EQ(s2_query(&vm->s2, gpa(kRam)).attr.perm, kAll);
}

TEST_F(VmView, a_right_that_the_base_withholds_comes_back_through_a_view)
{
	u8 view = add();

	EXPECT_EQ(access(view, kRam, ACCESS_WRITE), OK);
	ask(PROBE_EXERCISE, EXERCISE_protect, kRam, MIB(2));
	EXPECT_EQ(access(view, kRam, ACCESS_WRITE), OK);
}

TEST_F(VmView, writes_in_a_view_are_written_pages)
{
	u8 view = add();
	u64 word = 0;

	EXPECT_EQ(access(view, kRam, ACCESS_WRITE), OK);
	ask(PROBE_EXERCISE, EXERCISE_split, kRam, MIB(2));
	ASSERT_EQ(vm_dirty_start(vm), OK);
	EXPECT_EQ(access(view, kRam + PAGE_SIZE, ACCESS_READ), OK);
	EXPECT_EQ(access(view, kRam + 2 * PAGE_SIZE, ACCESS_WRITE), OK);
	ASSERT_EQ(vm_dirty_get(vm, gpa(kRam), 64 * PAGE_SIZE, &word), OK);
	EXPECT_EQ(word, BIT(2));
}

TEST_F(VmView, a_probe_makes_views_and_narrows_them)
{
	u64 view = ask(PROBE_VIEW_ADD, kAll);

	ASSERT_EQ(view, 1u);
	EXPECT_EQ(access((u8)view, kRam, ACCESS_WRITE), OK);
	EXPECT_EQ(ask(PROBE_VIEW_PROTECT, view, kRam, S2_READ), 0u);
	EXPECT_EQ(access((u8)view, kRam, ACCESS_WRITE), DENIED);
	EXPECT_EQ(access((u8)view, kRam + PAGE_SIZE, ACCESS_WRITE), OK);
	EXPECT_EQ(ask(PROBE_VIEW_PROTECT, view + 1, kRam, S2_READ), (u64)INVALID);
	EXPECT_EQ(ask(PROBE_VIEW_PROTECT, view, kRam + 1, S2_READ), (u64)INVALID);
	EXPECT_EQ(ask(PROBE_VIEW_PROTECT, view, kRam, 16), (u64)INVALID);
	EXPECT_EQ(ask(PROBE_VIEW_ADD, 16), 0u);
}

} // namespace
