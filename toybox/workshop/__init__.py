"""Where toybox is made: its world, its training, its report and its benchmark. Not in the wheel."""
