"""What the task `vqa` needs beside its head: the questions of a split, who answers them, and what readers must know."""
