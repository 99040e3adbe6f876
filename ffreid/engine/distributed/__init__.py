"""Many processes: the group, how it is launched, what fails in one of them."""
