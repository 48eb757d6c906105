"""The file's name is the command's."""
