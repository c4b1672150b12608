"""What is written around a network's library: a firmware project, and packages for other tools."""
