"""Data: conversion of all kinds of x and y to batches of tensors on the device."""
