"""Which weights exist, where they lie, fetching and checking them."""
