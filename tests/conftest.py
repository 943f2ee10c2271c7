"""The order of the suite: its longest file first, so that the other cores work beside it."""


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: "test_end_to_end" not in item.nodeid)
