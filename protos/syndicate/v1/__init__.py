"""The generated messages and stubs of ``syndicate.v1``, the language that every part of Syndicate speaks."""
