"""What every part of a configuration is made of, whatever kinds there are: keys, and a sentence about a wrong one."""
