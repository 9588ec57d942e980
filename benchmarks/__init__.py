"""Claims about speed and size, each measured beside what it is compared with, in the same run."""
