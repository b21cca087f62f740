def run()->None:
    """x"""
