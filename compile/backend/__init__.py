"""From steps to files of machine code; what an operating system wants is in a file of its own."""
