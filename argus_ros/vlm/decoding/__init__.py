"""From pixels and a prompt to the tokens of an answer: prefill, decode steps, drafts."""
