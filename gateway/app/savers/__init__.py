"""What is saved off the message path, one subject a file: some every second or so, and all at the end."""
