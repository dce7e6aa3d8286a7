"""What the operating system gives: files written whole, locks, descriptors, addresses, malloc."""
