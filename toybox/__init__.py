"""toybox"""
