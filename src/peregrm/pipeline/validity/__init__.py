"""The parts of `peregrm validate`: what each asks of the judge, one module a part, each with `async def measure(context) -> Finding`."""
