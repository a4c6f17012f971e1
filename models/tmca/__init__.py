"""TMCA (papers 002 and 004): image and text aligned at four levels, as near as their masks overlap."""
