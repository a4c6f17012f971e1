"""Requests to models behind servers that speak OpenAI's chat protocol, for captions and for answers to questions."""
